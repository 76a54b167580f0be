//! The memory of the floor: a ring of provided buffers, filled by the kernel in turn.

use std::io;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::IoUring;
use io_uring::types::BufRingEntry;

/// Number of buffers, a power of two.
const COUNT: u16 = 128;
/// Bytes of one buffer.
const SIZE: usize = 32 * 1024;

/// A ring of provided buffers and the memory behind it.
pub(super) struct Buffers {
    /// `COUNT` entries at the start of a page, shared with the kernel.
    entries: *mut BufRingEntry,
    memory: Box<[u8]>,
    /// Where the next buffer given back goes; the kernel sees it after [`Self::publish`].
    tail: u16,
    published: u16,
}

impl Buffers {
    /// Makes the buffers known to a ring under the id `group`.
    ///
    /// They must outlive the ring's use; the floor keeps both until it is killed.
    pub(super) fn register(ring: &IoUring, group: u16) -> io::Result<Self> {
        let length = usize::from(COUNT) * size_of::<BufRingEntry>();
        // SAFETY: a new private mapping; nothing else points into it.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: page-aligned zeroed memory for COUNT entries, never unmapped.
        unsafe { ring.submitter().register_buf_ring(start as u64, COUNT, group)? };
        let memory = vec![0; usize::from(COUNT) * SIZE].into_boxed_slice();
        let mut buffers = Self { entries: start.cast(), memory, tail: 0, published: 0 };
        for buffer in 0..COUNT {
            buffers.give_back(buffer);
        }
        buffers.publish();
        Ok(buffers)
    }

    /// Where the bytes of a buffer begin.
    pub(super) fn start(&self, buffer: u16) -> *const u8 {
        self.memory[usize::from(buffer) * SIZE..].as_ptr()
    }

    /// Returns a buffer that the kernel had filled; it may be filled again after the next publish.
    pub(super) fn give_back(&mut self, buffer: u16) {
        let address = self.memory[usize::from(buffer) * SIZE..].as_mut_ptr();
        // SAFETY: the index is within the ring, and the kernel does not read entries at or beyond
        // the published tail; there are COUNT buffers, so the tail never laps the head.
        let entry = unsafe { &mut *self.entries.add(usize::from(self.tail & (COUNT - 1))) };
        entry.set_addr(address as u64);
        entry.set_len(SIZE as u32);
        entry.set_bid(buffer);
        self.tail = self.tail.wrapping_add(1);
    }

    /// Shows the kernel all that was given back; false when there was nothing.
    pub(super) fn publish(&mut self) -> bool {
        if self.tail == self.published {
            return false;
        }
        self.published = self.tail;
        // SAFETY: `entries` is the ring's base, where the kernel's shared tail lies; it is a u16
        // at an even address that only we write.
        unsafe {
            let tail = BufRingEntry::tail(self.entries).cast_mut();
            AtomicU16::from_ptr(tail).store(self.tail, Ordering::Release);
        }
        true
    }
}
