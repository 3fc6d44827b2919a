//! Sockets and socket options that the standard library has no names for.

use std::{
    io,
    mem::MaybeUninit,
    net::UdpSocket,
    os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd},
};

use anyhow::{Context, Result};

/// Opens a socket of any kind. A [`UdpSocket`] sends and receives on it, whatever it really is: only plain system calls
/// are behind it.
pub fn open(family: libc::c_int, kind: libc::c_int, protocol: libc::c_int) -> Result<UdpSocket> {
    // SAFETY: a system call that takes numbers.
    let socket = unsafe { libc::socket(family, kind | libc::SOCK_CLOEXEC, protocol) };
    if socket < 0 {
        return Err(io::Error::last_os_error()).context("a raw socket cannot be opened; are you root?");
    }
    // SAFETY: the descriptor is new and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(socket) }.into())
}

/// A socket that receives every frame of an interface of the thread's namespace, and sends frames as they are.
pub fn frames(interface: &str) -> Result<UdpSocket> {
    let socket = open(libc::AF_PACKET, libc::SOCK_RAW, 0)?;
    let index = nix::net::if_::if_nametoindex(interface).with_context(|| format!("no interface {interface}"))?;
    // SAFETY: sockaddr_ll is plain old data, for which all bits zero is a value.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = u16::try_from(libc::AF_PACKET)?;
    address.sll_protocol = u16::try_from(libc::ETH_P_ALL)?.to_be();
    address.sll_ifindex = i32::try_from(index)?;
    bind(&socket, &address).with_context(|| format!("a packet socket on {interface}"))?;
    Ok(socket)
}

/// Sets a socket option to a value of the type the kernel expects for it.
pub fn set_option<T: Copy>(socket: &impl AsFd, level: libc::c_int, name: libc::c_int, value: &T) -> Result<()> {
    let length = libc::socklen_t::try_from(size_of::<T>())?;
    // SAFETY: the value outlives the call and is as long as is said.
    let done = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            name,
            std::ptr::from_ref(value).cast(),
            length,
        )
    };
    if done < 0 {
        return Err(io::Error::last_os_error()).with_context(|| format!("socket option {level}/{name}"));
    }
    Ok(())
}

/// Reads a socket option of the type the kernel fills in for it.
///
/// # Safety
///
/// Every bit pattern must be a value of `T`: it is a number or a C structure of numbers.
pub unsafe fn option<T: Copy>(socket: &impl AsFd, level: libc::c_int, name: libc::c_int) -> Result<T> {
    let mut value = MaybeUninit::<T>::zeroed();
    let mut length = libc::socklen_t::try_from(size_of::<T>())?;
    // SAFETY: the kernel writes at most `length` bytes to a value that long.
    let done = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            name,
            value.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if done < 0 {
        return Err(io::Error::last_os_error()).with_context(|| format!("socket option {level}/{name}"));
    }
    // SAFETY: zeroed before the kernel wrote to it, and the caller promises that any bits are a value.
    Ok(unsafe { value.assume_init() })
}

/// Binds a socket to an address of its family's type.
pub fn bind<T: Copy>(socket: &impl AsFd, address: &T) -> Result<()> {
    let length = libc::socklen_t::try_from(size_of::<T>())?;
    // SAFETY: the address outlives the call and is as long as is said.
    let done = unsafe { libc::bind(socket.as_fd().as_raw_fd(), std::ptr::from_ref(address).cast(), length) };
    if done < 0 {
        return Err(io::Error::last_os_error()).context("a socket cannot be bound");
    }
    Ok(())
}

/// Receives a frame from a packet socket, cut off at the buffer's length, and where it was seen.
pub fn receive_frame(socket: &impl AsFd, buffer: &mut [u8]) -> io::Result<(usize, libc::sockaddr_ll)> {
    let mut address = MaybeUninit::<libc::sockaddr_ll>::zeroed();
    let mut address_length = libc::socklen_t::try_from(size_of::<libc::sockaddr_ll>()).unwrap_or(0);
    // SAFETY: both buffers outlive the call and are as long as is said.
    let length = unsafe {
        libc::recvfrom(
            socket.as_fd().as_raw_fd(),
            buffer.as_mut_ptr().cast(),
            buffer.len(),
            0,
            address.as_mut_ptr().cast(),
            &raw mut address_length,
        )
    };
    let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
    // SAFETY: sockaddr_ll is made of numbers and was zeroed before the kernel wrote to it.
    Ok((length, unsafe { address.assume_init() }))
}

/// The bytes of an Ethernet address, to build frames with.
pub fn mac(text: &str) -> Result<[u8; 6]> {
    let bytes: Vec<u8> = text
        .split(':')
        .map(|byte| u8::from_str_radix(byte, 16))
        .collect::<Result<_, _>>()?;
    bytes
        .try_into()
        .ok()
        .with_context(|| format!("{text} is no Ethernet address"))
}
