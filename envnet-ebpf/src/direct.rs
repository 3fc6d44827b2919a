//! Values in a packet's own memory, read and written two bytes at a time.
//!
//! The compiler assumes that the target has no unaligned access. It reads a value of unknown alignment byte by byte, which
//! was most of a program's work. But frames begin at even addresses, and the fields of all headers are at even offsets.

use core::mem::MaybeUninit;

use bytemuck::Pod;

/// Reads a value.
///
/// # Safety
///
/// `at` must be even and point to as many readable bytes as `T` has.
#[inline(always)]
pub(crate) unsafe fn read<T: Pod>(at: *const T) -> T {
    let mut value = MaybeUninit::<T>::uninit();
    let (from, to) = (at.cast::<u16>(), value.as_mut_ptr().cast::<u16>());
    let words = size_of::<T>() / 2;
    // SAFETY: `value` is as long as what is read, and any bytes are a `T`.
    unsafe {
        for word in 0..words {
            to.add(word).write_unaligned(from.add(word).read());
        }
        if !size_of::<T>().is_multiple_of(2) {
            let last = from.add(words).cast::<u8>().read();
            to.add(words).cast::<u8>().write(last);
        }
        value.assume_init()
    }
}

/// Writes a value.
///
/// # Safety
///
/// `at` must be even and point to as many writable bytes as `T` has.
#[inline(always)]
pub(crate) unsafe fn write<T: Pod>(at: *mut T, value: T) {
    let (from, to) = ((&raw const value).cast::<u16>(), at.cast::<u16>());
    let words = size_of::<T>() / 2;
    // SAFETY: as above, the other way round.
    unsafe {
        for word in 0..words {
            to.add(word).write(from.add(word).read_unaligned());
        }
        if !size_of::<T>().is_multiple_of(2) {
            let last = from.add(words).cast::<u8>().read();
            to.add(words).cast::<u8>().write(last);
        }
    }
}
