//! Frames that cost the receiver more than the sender: PING, SETTINGS, PRIORITY, empty DATA and the like
//! (CVE-2019-9511 to 9518). `h2` answers each; how many of them a peer may send is decided here, by a
//! look at the headers of the frames as they pass.

use std::time::{Duration, Instant};

use super::PREFACE;

/// Bytes of a frame's header.
const FRAME_HEADER_BYTES: usize = 9;
/// Frames without use that a connection may send in a row.
const FRAMES_MAX: u32 = 10_000;
/// So many bytes of DATA or HEADERS, either way, earn one frame: windows must be opened and round trips
/// measured. An answer to a PING or SETTINGS (17 and 9 bytes) earns a part of one.
const BYTES_PER_FRAME: usize = 64;
/// Time that earns one frame: PINGs of an idle connection.
const TIME_PER_FRAME: Duration = Duration::from_millis(100);

/// How many frames without use a peer may still send.
pub(super) struct FrameBudget {
    left: u32,
    /// Bytes towards the next frame that is earned.
    earned_bytes: usize,
    earned_at: Option<Instant>,
    /// Bytes of the preface that are still to come.
    preface_left: usize,
    header: [u8; FRAME_HEADER_BYTES],
    header_bytes: usize,
    /// Bytes of the frame's payload that are still to come.
    payload_left: usize,
    /// Field blocks (HEADERS and what continues it) that have begun.
    heads_begun: u64,
    /// The frame that ends the last of them has not come.
    head_continues: bool,
    /// Is the present frame, whose payload may be incomplete, of a field block?
    in_head: bool,
    /// Has a frame begun?
    begun: bool,
    /// Is the first frame complete?
    first_complete: bool,
}

impl FrameBudget {
    /// Of what a client sends.
    pub(super) fn of_client() -> FrameBudget {
        FrameBudget { preface_left: PREFACE.len(), ..FrameBudget::of_server() }
    }

    /// Of what a server sends.
    pub(super) fn of_server() -> FrameBudget {
        FrameBudget {
            left: FRAMES_MAX,
            earned_bytes: 0,
            earned_at: None,
            preface_left: 0,
            header: [0; FRAME_HEADER_BYTES],
            header_bytes: 0,
            payload_left: 0,
            heads_begun: 0,
            head_continues: false,
            in_head: false,
            begun: false,
            first_complete: false,
        }
    }

    /// Field blocks that have begun.
    pub(super) fn heads_begun(&self) -> u64 {
        self.heads_begun
    }

    /// Is the last of them incomplete? Until it is complete, nothing else of the connection gets on.
    pub(super) fn head_open(&self) -> bool {
        self.head_continues || self.in_head && self.payload_left > 0
    }

    /// Has the peer's first frame come, its SETTINGS (RFC 9113 section 3.4)?
    pub(super) fn first_complete(&self) -> bool {
        self.first_complete
    }

    /// These bytes were sent to the peer.
    pub(super) fn sent(&mut self, bytes: usize) {
        self.earn(bytes);
    }

    /// These bytes were received, behind those before. False: the budget is spent.
    pub(super) fn received(&mut self, mut bytes: &[u8]) -> bool {
        let skipped = self.preface_left.min(bytes.len());
        self.preface_left -= skipped;
        bytes = &bytes[skipped..];
        while !bytes.is_empty() {
            if self.payload_left > 0 {
                let count = self.payload_left.min(bytes.len());
                self.payload_left -= count;
                self.first_complete |= self.payload_left == 0;
                bytes = &bytes[count..];
                continue;
            }
            let count = (FRAME_HEADER_BYTES - self.header_bytes).min(bytes.len());
            self.header[self.header_bytes..self.header_bytes + count]
                .copy_from_slice(&bytes[..count]);
            self.header_bytes += count;
            bytes = &bytes[count..];
            if self.header_bytes == FRAME_HEADER_BYTES {
                self.header_bytes = 0;
                if !self.frame() {
                    return false;
                }
                self.begun = true;
            }
            self.first_complete |= self.begun && self.payload_left == 0;
        }
        true
    }

    /// A frame's header is complete.
    fn frame(&mut self) -> bool {
        const DATA: u8 = 0;
        const HEADERS: u8 = 1;
        const PUSH_PROMISE: u8 = 5;
        const CONTINUATION: u8 = 9;
        const END_STREAM: u8 = 1;
        const END_HEADERS: u8 = 4;
        let [high, middle, low, kind, flags, ..] = self.header;
        self.payload_left = u32::from_be_bytes([0, high, middle, low]) as usize;
        let ends = flags & END_STREAM != 0;
        self.in_head = matches!(kind, HEADERS | PUSH_PROMISE | CONTINUATION);
        if self.in_head {
            self.heads_begun += u64::from(kind != CONTINUATION);
            self.head_continues = flags & END_HEADERS == 0;
        }
        match kind {
            DATA if self.payload_left > 0 => self.earn(self.payload_left),
            DATA if ends => {}
            HEADERS => self.earn(self.payload_left),
            _ => return self.spend(),
        }
        true
    }

    fn earn(&mut self, bytes: usize) {
        self.earned_bytes += bytes;
        let frames = self.earned_bytes / BYTES_PER_FRAME;
        self.earned_bytes %= BYTES_PER_FRAME;
        self.left =
            FRAMES_MAX.min(self.left.saturating_add(u32::try_from(frames).unwrap_or(u32::MAX)));
    }

    fn spend(&mut self) -> bool {
        if self.left < FRAMES_MAX / 2 {
            // The clock is asked only of those that send many.
            let now = Instant::now();
            let since = now.saturating_duration_since(*self.earned_at.get_or_insert(now));
            let frames = since.as_millis() / TIME_PER_FRAME.as_millis();
            if frames > 0 {
                self.earned_at = Some(now);
                let frames = u32::try_from(frames).unwrap_or(u32::MAX);
                self.left = FRAMES_MAX.min(self.left.saturating_add(frames));
            }
        }
        match self.left.checked_sub(1) {
            Some(left) => self.left = left,
            None => return false,
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        let mut frame = (payload as u32).to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags, 0, 0, 0, 1]);
        frame.resize(FRAME_HEADER_BYTES + payload, 0);
        frame
    }

    /// How many of these frames are borne, up to twice the budget.
    fn borne(budget: &mut FrameBudget, frame: &[u8]) -> u32 {
        (0..FRAMES_MAX * 2).take_while(|_| budget.received(frame)).count() as u32
    }

    #[test]
    fn frames_without_use_are_counted() {
        for (kind, payload) in [(0, 0), (2, 5), (4, 6), (6, 8), (8, 4), (99, 3)] {
            let count = borne(&mut FrameBudget::of_server(), &frame(kind, 0, payload));
            assert!((FRAMES_MAX..FRAMES_MAX * 2).contains(&count), "kind {kind}: {count}");
        }
    }

    #[test]
    fn frames_with_use_are_not() {
        for (kind, flags, payload) in [(0, 0, 1), (0, 1, 0), (1, 4, 20)] {
            let count = borne(&mut FrameBudget::of_server(), &frame(kind, flags, payload));
            assert_eq!(count, FRAMES_MAX * 2, "kind {kind}");
        }
    }

    #[test]
    fn what_is_moved_earns_frames() {
        let mut budget = FrameBudget::of_server();
        let window_update = frame(8, 0, 4);
        for _ in 0..FRAMES_MAX * 2 {
            budget.sent(1024);
            assert!(budget.received(&window_update) && budget.received(&window_update));
        }
        // Its own answers do not pay for a flood of PINGs.
        let ping = frame(6, 0, 8);
        let endless = (0..FRAMES_MAX * 2).all(|_| {
            budget.sent(17);
            budget.received(&ping)
        });
        assert!(!endless);
    }

    #[test]
    fn heads_are_open_until_their_last_byte() {
        let mut budget = FrameBudget::of_server();
        let mut receive = |bytes: &[u8]| {
            assert!(budget.received(bytes));
            (budget.heads_begun(), budget.head_open())
        };
        assert_eq!(receive(&frame(4, 0, 6)), (0, false));
        let whole = frame(1, 4, 20);
        assert_eq!(receive(&whole[..8]), (0, false));
        assert_eq!(receive(&whole[8..28]), (1, true));
        assert_eq!(receive(&whole[28..]), (1, false));
        assert_eq!(receive(&frame(1, 0, 20)), (2, true));
        assert_eq!(receive(&frame(9, 0, 20)), (2, true));
        assert_eq!(receive(&frame(9, 4, 20)), (2, false));
        assert_eq!(receive(&frame(0, 4, 20)[..20]), (2, false));
    }

    #[test]
    fn the_first_frame_is_there_when_all_of_it_is() {
        for payload in [0, 6] {
            let first = frame(4, 0, payload);
            let mut budget = FrameBudget::of_server();
            for byte in &first {
                assert!(!budget.first_complete());
                assert!(budget.received(&[*byte]));
            }
            assert!(budget.first_complete());
            let mut budget = FrameBudget::of_server();
            assert!(budget.received(&[&first[..], &frame(1, 4, 20)[..12]].concat()));
            assert!(budget.first_complete());
        }
    }

    #[test]
    fn frames_are_found_however_they_arrive() {
        let mut bytes = PREFACE.to_vec();
        bytes.extend(frame(4, 0, 12));
        bytes.extend(frame(0, 0, 300));
        bytes.extend(frame(6, 0, 8));
        for piece in [1, 2, 7, 9, 10, 1000] {
            let mut budget = FrameBudget::of_client();
            assert!(bytes.chunks(piece).all(|piece| budget.received(piece)));
            // Two were spent, some of the DATA between them earned the first back.
            assert_eq!(budget.left, FRAMES_MAX - 1, "pieces of {piece}");
        }
    }
}
