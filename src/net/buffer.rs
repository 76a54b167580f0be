//! Receive buffers and their per-worker pool.
//!
//! A buffer is initialised once and then reused: zeroing 16 KiB per read costs more than parsing
//! the head. Received bytes lie at `start..end`; the space before `start` (headroom) takes a
//! rewritten head or a chunk size, so that head and body leave in one send, uncopied.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};

use monoio::buf::{IoBuf, IoBufMut};

use crate::limits::{BUFFER_BYTES, BUFFER_HEADROOM_BYTES, IDLE_BUFFER_BYTES, LARGE_BUFFER_BYTES};

/// Bytes kept free behind the received ones: the end of a chunk and the last chunk.
pub const TAILROOM_BYTES: usize = 16;

/// A fixed, initialised block of bytes with a window of received ones.
#[derive(Debug)]
pub struct Buffer {
    storage: Box<[u8]>,
    start: usize,
    end: usize,
    /// The most that the next receive may bring.
    limit: usize,
}

impl Buffer {
    /// A zeroed buffer of `capacity` bytes whose window is empty and begins at `headroom`.
    fn new(capacity: usize, headroom: usize) -> Buffer {
        Buffer {
            storage: vec![0; capacity].into_boxed_slice(),
            start: headroom,
            end: headroom,
            limit: usize::MAX,
        }
    }

    /// The small buffer that an idle connection waits with: no headroom, no tailroom.
    pub fn idle() -> Buffer {
        Buffer::new(IDLE_BUFFER_BYTES, 0)
    }

    /// Is it the small buffer that idle connections wait with?
    pub fn is_idle_size(&self) -> bool {
        self.storage.len() == IDLE_BUFFER_BYTES
    }

    /// Bytes of the whole block.
    pub fn capacity(&self) -> usize {
        self.storage.len()
    }

    /// Bytes free before the window.
    pub fn headroom(&self) -> usize {
        self.start
    }

    /// Bytes free behind the window, tailroom included.
    pub fn spare(&self) -> usize {
        self.storage.len() - self.end
    }

    /// How many more bytes a receive may bring.
    fn receivable(&self) -> usize {
        let tail = if !self.is_idle_size() { TAILROOM_BYTES } else { 0 };
        self.spare().saturating_sub(tail).min(self.limit)
    }

    /// Where the next receive may put bytes, all of them initialised.
    pub fn receivable_bytes(&mut self) -> &mut [u8] {
        let count = self.receivable();
        &mut self.storage[self.end..self.end + count]
    }

    /// `count` bytes were put into [`Buffer::receivable_bytes`].
    pub fn received(&mut self, count: usize) {
        self.end += count.min(self.receivable());
    }

    /// Let the next receives bring at most `bytes` each, until the window is cleared: a body of
    /// known length is read without touching the next message.
    pub fn limit_receive(&mut self, bytes: u64) {
        self.limit = usize::try_from(bytes).unwrap_or(usize::MAX);
    }

    /// Can no further byte be received?
    pub fn is_full(&self) -> bool {
        self.receivable() == 0
    }

    /// Drop the first `count` bytes of the window. When it becomes empty it moves back to the
    /// headroom of its size.
    pub fn advance(&mut self, count: usize) {
        self.start += count.min(self.end - self.start);
        if self.start == self.end {
            self.clear();
        }
    }

    /// Drop the first `count` bytes of the window and leave it where it is.
    pub fn skip(&mut self, count: usize) {
        self.start += count.min(self.end - self.start);
    }

    /// Empty the window and put it behind the usual headroom.
    pub fn clear(&mut self) {
        let headroom = if !self.is_idle_size() { BUFFER_HEADROOM_BYTES } else { 0 };
        self.start = headroom;
        self.end = headroom;
        self.limit = usize::MAX;
    }

    /// Keep only the first `length` bytes of the window.
    pub fn truncate(&mut self, length: usize) {
        self.end = self.end.min(self.start + length);
    }

    /// Move the window to the front of the block, so that more can be received behind it.
    pub fn compact(&mut self) {
        let window = self.start..self.end;
        let limit = self.limit;
        let length = window.len();
        self.clear();
        self.limit = limit;
        if window.start > self.start {
            self.storage.copy_within(window, self.start);
            self.end = self.start + length;
        } else {
            self.start = window.start;
            self.end = window.end;
        }
    }

    /// Put `bytes` directly before the window. False, and nothing done, when the headroom is too
    /// small.
    pub fn prepend(&mut self, bytes: &[u8]) -> bool {
        let Some(start) = self.start.checked_sub(bytes.len()) else { return false };
        self.storage[start..self.start].copy_from_slice(bytes);
        self.start = start;
        true
    }

    /// Put `bytes` behind the window. False, and nothing done, when they do not fit.
    pub fn append(&mut self, bytes: &[u8]) -> bool {
        if bytes.len() > self.spare() {
            return false;
        }
        self.storage[self.end..self.end + bytes.len()].copy_from_slice(bytes);
        self.end += bytes.len();
        true
    }
}

impl Deref for Buffer {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        &self.storage[self.start..self.end]
    }
}

impl DerefMut for Buffer {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.storage[self.start..self.end]
    }
}

// SAFETY: `read_ptr` points at `bytes_init` initialised bytes of a heap block that does not move
// when the `Buffer` moves, and that lives as long as the `Buffer` the runtime owns meanwhile.
unsafe impl IoBuf for Buffer {
    #[inline]
    fn read_ptr(&self) -> *const u8 {
        self.deref().as_ptr()
    }

    #[inline]
    fn bytes_init(&self) -> usize {
        self.end - self.start
    }
}

// SAFETY: as above; the kernel writes at most `bytes_total` bytes from `write_ptr`, which is the
// free space behind the window, and all of the block is initialised.
unsafe impl IoBufMut for Buffer {
    #[inline]
    fn write_ptr(&mut self) -> *mut u8 {
        self.storage[self.end..].as_mut_ptr()
    }

    #[inline]
    fn bytes_total(&mut self) -> usize {
        self.receivable()
    }

    /// `count` bytes were received behind the window.
    #[inline]
    unsafe fn set_init(&mut self, count: usize) {
        self.end = (self.end + count).min(self.storage.len());
    }
}

/// Free buffers of one worker, by size.
#[derive(Debug, Default)]
pub struct BufferPool {
    usual: RefCell<Vec<Buffer>>,
    large: RefCell<Vec<Buffer>>,
}

/// Free buffers kept; more are given back to the allocator.
const USUAL_KEPT_MAX: usize = 1024;
const LARGE_KEPT_MAX: usize = 32;

impl BufferPool {
    /// A buffer of [`BUFFER_BYTES`].
    pub fn take(&self) -> Buffer {
        let buffer = self.usual.borrow_mut().pop();
        buffer.unwrap_or_else(|| Buffer::new(BUFFER_BYTES, BUFFER_HEADROOM_BYTES))
    }

    /// A buffer of [`LARGE_BUFFER_BYTES`].
    pub fn take_large(&self) -> Buffer {
        let buffer = self.large.borrow_mut().pop();
        buffer.unwrap_or_else(|| Buffer::new(LARGE_BUFFER_BYTES, BUFFER_HEADROOM_BYTES))
    }

    /// Give a buffer back; its bytes are forgotten.
    pub fn give(&self, mut buffer: Buffer) {
        let (list, kept_max) = match buffer.capacity() {
            BUFFER_BYTES => (&self.usual, USUAL_KEPT_MAX),
            LARGE_BUFFER_BYTES => (&self.large, LARGE_KEPT_MAX),
            _ => return,
        };
        buffer.clear();
        let mut list = list.borrow_mut();
        if list.len() < kept_max {
            list.push(buffer);
        }
    }

    /// A buffer with the same bytes and room for more: the same one when moving its window makes
    /// enough, else a larger one, or `None` when there is no larger size. The old one
    /// goes back to the pool unless it is an idle buffer, which is returned beside it.
    pub fn grow(&self, mut buffer: Buffer) -> Result<(Buffer, Option<Buffer>), Buffer> {
        buffer.compact();
        let largest = buffer.capacity() == LARGE_BUFFER_BYTES;
        if buffer.spare() > buffer.capacity() / 2 || (largest && !buffer.is_full()) {
            return Ok((buffer, None));
        }
        let mut larger = match buffer.capacity() {
            LARGE_BUFFER_BYTES => return Err(buffer),
            BUFFER_BYTES => self.take_large(),
            _ => self.take(),
        };
        if !larger.append(&buffer) {
            self.give(larger);
            return Err(buffer);
        }
        if buffer.is_idle_size() {
            let mut idle = buffer;
            idle.clear();
            return Ok((larger, Some(idle)));
        }
        self.give(buffer);
        Ok((larger, None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receive(buffer: &mut Buffer, bytes: &[u8]) {
        assert!(bytes.len() <= buffer.bytes_total());
        // SAFETY: `write_ptr` has room for `bytes_total` bytes, and exactly `bytes.len()` of them
        // are written before they are counted.
        unsafe {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), buffer.write_ptr(), bytes.len());
            buffer.set_init(bytes.len());
        }
    }

    #[test]
    fn window_moves_with_what_is_received_and_sent() {
        let pool = BufferPool::default();
        let mut buffer = pool.take();
        receive(&mut buffer, b"hello");
        receive(&mut buffer, b" world");
        assert_eq!(&*buffer, b"hello world");
        buffer.advance(6);
        assert_eq!(&*buffer, b"world");
        assert!(buffer.prepend(b"the "));
        assert!(buffer.append(b"!"));
        assert_eq!(&*buffer, b"the world!");
        buffer.advance(100);
        assert!(buffer.is_empty());
        assert_eq!(buffer.headroom(), BUFFER_HEADROOM_BYTES);
    }

    #[test]
    fn headroom_is_respected() {
        let pool = BufferPool::default();
        let mut buffer = pool.take();
        assert!(!buffer.prepend(&[0; BUFFER_HEADROOM_BYTES + 1]));
        assert!(buffer.prepend(&[1; BUFFER_HEADROOM_BYTES]));
        assert_eq!(buffer.headroom(), 0);
    }

    #[test]
    fn a_full_buffer_keeps_its_tailroom() {
        let pool = BufferPool::default();
        let mut buffer = pool.take();
        let room = buffer.bytes_total();
        receive(&mut buffer, &vec![7; room]);
        assert!(buffer.is_full());
        assert_eq!(buffer.spare(), TAILROOM_BYTES);
        assert!(buffer.append(b"\r\n0\r\n\r\n"));
    }

    #[test]
    fn growing_keeps_the_bytes_and_returns_the_idle_buffer() {
        let pool = BufferPool::default();
        let mut idle = Buffer::idle();
        let room = idle.bytes_total();
        receive(&mut idle, &vec![b'x'; room]);
        assert!(idle.is_full());
        let (usual, idle) = pool.grow(idle).expect("a larger size exists");
        assert_eq!(usual.len(), room);
        assert!(idle.is_some_and(|idle| idle.is_empty()));
        let mut usual = usual;
        let more = usual.bytes_total();
        receive(&mut usual, &vec![b'z'; more]);
        let (mut large, none) = pool.grow(usual).expect("a larger size exists");
        assert!(none.is_none());
        assert_eq!(large.len(), room + more);
        let rest = large.bytes_total();
        receive(&mut large, &vec![b'y'; rest]);
        assert!(pool.grow(large).is_err(), "there is no larger size, and nothing was consumed");
    }

    #[test]
    fn growing_first_uses_the_room_of_what_was_consumed() {
        let pool = BufferPool::default();
        let mut buffer = pool.take_large();
        let room = buffer.bytes_total();
        receive(&mut buffer, &vec![b'x'; room]);
        buffer.skip(room - 3);
        assert!(buffer.is_full());
        let (buffer, _) = pool.grow(buffer).expect("most of it was consumed");
        assert_eq!(&*buffer, b"xxx");
        assert!(!buffer.is_full());
        assert_eq!(buffer.headroom(), BUFFER_HEADROOM_BYTES);
    }

    #[test]
    fn buffers_are_reused() {
        let pool = BufferPool::default();
        let buffer = pool.take();
        let block = buffer.storage.as_ptr();
        pool.give(buffer);
        assert_eq!(pool.take().storage.as_ptr(), block);
    }
}
