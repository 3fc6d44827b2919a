//! Writes what [`translate`](crate::translate) has decided.

use bytemuck::Pod;

use crate::{
    DropReason,
    checksum::{Change, Checksum},
    parse::Read,
    translate::{L4Checksum, Rewrite, WordEdit},
};

/// A frame that can be written to. Checksums have methods of their own, because in the kernel a transport checksum may be
/// unfinished (left to the device), which only the kernel knows.
pub trait Write: Read {
    /// Replaces the bytes at `offset`.
    fn write<T: Pod>(&mut self, offset: usize, value: T) -> Option<()>;

    /// Corrects a transport checksum for addresses that changed in its pseudo header.
    fn correct_pseudo_header(&mut self, checksum: L4Checksum, change: Change) -> Option<()>;

    /// Corrects the checksum at `checksum` for a field that it covers.
    fn correct_covered(&mut self, checksum: usize, field: &WordEdit) -> Option<()>;
}

/// Carries out a translation. After an error the packet may be half written and must be dropped.
#[inline(always)]
pub fn apply(packet: &mut (impl Write + ?Sized), rewrite: &Rewrite) -> Result<(), DropReason> {
    steps(packet, rewrite).ok_or(DropReason::HelperFailed)
}

#[inline(always)]
fn steps(packet: &mut (impl Write + ?Sized), rewrite: &Rewrite) -> Option<()> {
    if let Some(checksum) = rewrite.l4_checksum {
        packet.correct_pseudo_header(checksum, Change::address(rewrite.old, rewrite.new))?;
    }
    if let Some(embedded) = &rewrite.embedded {
        if let Some(field) = &embedded.l4_checksum {
            packet.write(field.offset, field.new)?;
            packet.correct_covered(embedded.icmp_checksum, field)?;
        }
        packet.write(embedded.header.offset, embedded.header.tail)?;
    }
    packet.write(rewrite.header.offset, rewrite.header.tail)
}

impl Write for [u8] {
    fn write<T: Pod>(&mut self, offset: usize, value: T) -> Option<()> {
        self.get_mut(offset..)?
            .get_mut(..size_of::<T>())?
            .copy_from_slice(bytemuck::bytes_of(&value));
        Some(())
    }

    fn correct_pseudo_header(&mut self, checksum: L4Checksum, change: Change) -> Option<()> {
        let field = self.read(checksum.offset)?;
        self.write(checksum.offset, checksum.corrected(field, change))
    }

    fn correct_covered(&mut self, checksum: usize, field: &WordEdit) -> Option<()> {
        let outer: Checksum = self.read(checksum)?;
        self.write(checksum, outer.corrected(Change::word(field.old.0, field.new.0)))
    }
}
