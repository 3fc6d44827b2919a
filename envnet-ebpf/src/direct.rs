//! Values in a packet's own memory, read and written two bytes at a time.
//!
//! The target has no unaligned access as far as the compiler knows, so it takes a value of unknown alignment apart into
//! bytes, and those were most of what a program did. But frames begin at even addresses, and the fields of all headers are at
//! even offsets.

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
    let to = value.as_mut_ptr().cast::<u8>();
    let from = at.cast::<u8>();
    let mut done = 0;
    // SAFETY: `value` is as long as what is read, and any bytes are a `T`.
    unsafe {
        while done + 2 <= size_of::<T>() {
            let word = from.add(done).cast::<u16>().read();
            to.add(done).cast::<u16>().write_unaligned(word);
            done += 2;
        }
        if done < size_of::<T>() {
            to.add(done).write(from.add(done).read());
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
    let to = at.cast::<u8>();
    let from = (&raw const value).cast::<u8>();
    let mut done = 0;
    // SAFETY: as above, the other way round.
    unsafe {
        while done + 2 <= size_of::<T>() {
            let word = from.add(done).cast::<u16>().read_unaligned();
            to.add(done).cast::<u16>().write(word);
            done += 2;
        }
        if done < size_of::<T>() {
            to.add(done).write(from.add(done).read());
        }
    }
}
