//! Where the running kernel keeps what the programs read from its `struct sk_buff`, from its BTF.

use std::{fs, sync::OnceLock};

use aya::EbpfLoader;
use btfparse::{ErrorKind, Offset, Readable, TypeInformation};
use envnet_common::sk_buff::{LAYOUT, Layout};

use super::{Error, Explain as _, Result};

const BTF: &str = "/sys/kernel/btf/vmlinux";

/// A loader for envnet's programs, which know this kernel.
pub fn loader() -> Result<EbpfLoader<'static>> {
    static KNOWN: OnceLock<Layout> = OnceLock::new();
    let layout = match KNOWN.get() {
        Some(layout) => layout,
        None => KNOWN.get_or_init({
            let layout = layout()?;
            move || layout
        }),
    };
    let mut loader = EbpfLoader::new();
    loader.override_global(LAYOUT, layout, true);
    Ok(loader)
}

fn layout() -> Result<Layout> {
    let bytes = fs::read(BTF).explain(|| {
        format!("cannot read {BTF}, which says where the kernel keeps a packet's checksum; envnet needs a kernel with CONFIG_DEBUG_INFO_BTF")
    })?;
    let strange = || format!("{BTF} does not describe a packet's buffer as envnet knows it");
    parse(&bytes).explain(strange)
}

/// The file's contents.
struct Bytes<'a>(&'a [u8]);

impl Readable for Bytes<'_> {
    fn read(&self, offset: u64, buffer: &mut [u8]) -> btfparse::Result<()> {
        let from = usize::try_from(offset).ok().and_then(|offset| self.0.get(offset..));
        match from.and_then(|from| from.get(..buffer.len())) {
            Some(from) => {
                buffer.copy_from_slice(from);
                Ok(())
            }
            None => Err(btfparse::Error::new(ErrorKind::IOError, "it ends too early")),
        }
    }
}

fn parse(bytes: &[u8]) -> Result<Layout> {
    let said = |error: btfparse::Error| Error::Unexpected(error.message().to_owned());
    let types = TypeInformation::new(&Bytes(bytes)).map_err(said)?;
    let buffer = types.id_of("sk_buff").explain(|| "it has no struct sk_buff")?;
    let offset = |member: &str| -> Result<Offset> {
        let found = types.offset_of(buffer, member).map_err(said);
        found.map(|(_, offset)| offset).explain(|| member.to_owned())
    };
    let byte = |member: &str| match offset(member)? {
        Offset::ByteOffset(byte) => Ok(byte),
        Offset::BitOffsetAndSize(..) => Err(Error::Unexpected(format!("{member} is a bit field"))),
    };
    let (ip_summed, ip_summed_shift) = match offset("ip_summed")? {
        Offset::BitOffsetAndSize(bit, 2) if bit % 8 <= 6 => (bit / 8, bit % 8),
        other => return Err(Error::Unexpected(format!("ip_summed is at {other:?}"))),
    };
    let csum_start = byte("csum_start")?;
    if byte("csum_offset")? != csum_start + 2 {
        return Err(Error::Unexpected("csum_offset does not follow csum_start".to_owned()));
    }
    Ok(Layout {
        ip_summed,
        ip_summed_shift,
        csum_start,
        mac_header: byte("mac_header")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_btf_is_refused() {
        assert!(parse(b"").is_err());
        assert!(parse(&[0x9f; 64]).is_err());
    }
}
