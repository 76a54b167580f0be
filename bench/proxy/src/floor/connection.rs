//! The state of one pair of connections: downstream and its own upstream.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use super::buffers::Buffers;

/// Index of the side that connected to us.
pub(super) const DOWN: usize = 0;
/// Index of the side that we connected to.
pub(super) const UP: usize = 1;

/// Most buffers in one send.
const GATHER: usize = 64;

/// One end of the pair. `sending` and `waiting` are bytes on their way *to* it.
#[derive(Default)]
pub(super) struct Side {
    fd: Option<OwnedFd>,
    /// It has sent its last byte.
    pub(super) ended: bool,
    /// We have told it that there is no more to come.
    told: bool,
    /// Its receive ended for want of a buffer and is still counted as in flight.
    pub(super) starved: bool,
    /// Received buffers and their lengths, not yet in a send.
    pub(super) waiting: Vec<(u16, u32)>,
    /// The buffers of the send under way.
    pub(super) sending: Vec<(u16, u32)>,
    /// Bytes of the send under way, 0 without one.
    pub(super) sending_bytes: i32,
    gather: Option<Box<Gather>>,
}

/// What a send of several buffers points to; boxed so that it stays in place.
struct Gather {
    parts: [libc::iovec; GATHER],
    message: libc::msghdr,
}

/// A send that is ready to be submitted.
pub(super) enum Send {
    /// One buffer: start and length.
    One(*const u8, u32),
    /// Several.
    Many(*const libc::msghdr),
}

impl Side {
    pub(super) fn raw_fd(&self) -> Option<RawFd> {
        self.fd.as_ref().map(AsRawFd::as_raw_fd)
    }

    /// Moves what waits into a send; `None` when there is nothing or a send is under way.
    pub(super) fn take_waiting(&mut self, buffers: &Buffers) -> Option<(RawFd, Send)> {
        if self.sending_bytes != 0 || self.waiting.is_empty() {
            return None;
        }
        let fd = self.raw_fd()?;
        if self.waiting.len() <= GATHER {
            std::mem::swap(&mut self.waiting, &mut self.sending);
        } else {
            self.sending.extend(self.waiting.drain(..GATHER));
        }
        if let [(buffer, length)] = self.sending[..] {
            self.sending_bytes = length as i32;
            return Some((fd, Send::One(buffers.start(buffer), length)));
        }
        let gather = self.gather.get_or_insert_with(Gather::new);
        let mut total = 0;
        for (part, &(buffer, length)) in gather.parts.iter_mut().zip(&self.sending) {
            part.iov_base = buffers.start(buffer).cast_mut().cast();
            part.iov_len = length as usize;
            total += length as i32;
        }
        gather.message.msg_iov = gather.parts.as_mut_ptr();
        gather.message.msg_iovlen = self.sending.len();
        self.sending_bytes = total;
        Some((fd, Send::Many(&raw const gather.message)))
    }

    fn shut_down(&self, how: libc::c_int) {
        if let Some(fd) = self.raw_fd() {
            // SAFETY: no pointers; the descriptor is ours.
            unsafe { libc::shutdown(fd, how) };
        }
    }
}

impl Gather {
    fn new() -> Box<Self> {
        // SAFETY: both are plain data of the kernel's, for which all zeroes is valid and empty.
        Box::new(unsafe { std::mem::zeroed() })
    }
}

/// A pair and what is under way for it.
#[derive(Default)]
pub(super) struct Connection {
    pub(super) sides: [Side; 2],
    /// Operations that still have a completion to come.
    pub(super) in_flight: u32,
    pub(super) connecting: bool,
    /// It failed: both sides are shut down and only the completions are awaited.
    pub(super) aborted: bool,
    open: bool,
}

impl Connection {
    /// Begins a pair in this slot, whose upstream is still to be connected.
    pub(super) fn open(&mut self, down: OwnedFd, up: OwnedFd) {
        for (side, fd) in self.sides.iter_mut().zip([down, up]) {
            side.fd = Some(fd);
            side.ended = false;
            side.told = false;
        }
        self.in_flight = 0;
        self.connecting = true;
        self.aborted = false;
        self.open = true;
    }

    /// Gives the pair up; what is under way ends soon after.
    pub(super) fn abort(&mut self) {
        if !self.aborted {
            self.aborted = true;
            for side in &mut self.sides {
                side.shut_down(libc::SHUT_RDWR);
                // A starved receive is in flight only by our own count.
                self.in_flight -= u32::from(std::mem::take(&mut side.starved));
            }
        }
    }

    /// Tells a side that the other has ended, once all that was on its way has been sent (and its
    /// connect is over: the caller asks again then).
    pub(super) fn pass_on_end(&mut self, to: usize) {
        if to == UP && self.connecting {
            return;
        }
        let ended = self.sides[1 - to].ended;
        let side = &mut self.sides[to];
        if ended && !side.told && side.sending_bytes == 0 && side.waiting.is_empty() {
            side.told = true;
            // When both have ended the close that follows says it.
            if !side.ended {
                side.shut_down(libc::SHUT_WR);
            }
        }
    }

    /// Whether nothing more is to come from the kernel and nothing is left to send.
    pub(super) fn is_over(&self) -> bool {
        self.open
            && self.in_flight == 0
            && (self.aborted || self.sides.iter().all(|side| side.ended && side.told))
    }

    /// Closes both ends and returns what buffers they still hold.
    pub(super) fn close(&mut self, buffers: &mut Buffers) {
        self.open = false;
        for side in &mut self.sides {
            side.fd = None;
            side.sending_bytes = 0;
            for (buffer, _) in side.waiting.drain(..).chain(side.sending.drain(..)) {
                buffers.give_back(buffer);
            }
        }
    }
}
