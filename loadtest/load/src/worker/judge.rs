//! What becomes of a response, whichever protocol brought it: it is judged by the check of its request, and
//! recorded as completed or as failed.

use super::board::Board;
use crate::dispatch::Job;
use crate::failure::Failure;
use crate::plan::PreparedRequest;
use crate::record::Exchange;
use crate::schedule::Nanos;
use crate::settings::Check;

/// A response that is complete, with its times on the run's clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answer<'k> {
    pub(super) status: u16,
    /// Of the body, without framing.
    pub(super) body_bytes: u64,
    /// The body as far as a check wants to see it.
    pub(super) kept: &'k [u8],
    /// When the generator turned to the request.
    pub(super) begun: Nanos,
    /// When the request went out.
    pub(super) sent: Nanos,
    /// When the first byte of the response had come.
    pub(super) first_byte: Nanos,
    /// When the last had.
    pub(super) done: Nanos,
}

/// What is wrong with a response, if something is.
fn fault(check: &Check, answer: &Answer<'_>) -> Option<Failure> {
    if !check.allows_status(answer.status) {
        Some(Failure::Status)
    } else if !check.allows_body(answer.kept, answer.body_bytes) {
        Some(Failure::Body)
    } else {
        None
    }
}

impl Board {
    /// Judges and records the response to a job's request.
    pub(super) fn answered(&self, job: &Job, request: &PreparedRequest, answer: &Answer<'_>) {
        let &Answer { status, body_bytes, begun, sent, first_byte, done, .. } = answer;
        match fault(&request.check, answer) {
            Some(kind) => self.failed(job, done, kind, Some(status)),
            None => self.completed(&Exchange {
                due: job.due,
                begun,
                sent,
                first_byte,
                done,
                request: job.request,
                found_idle: job.found_idle,
                status,
                body_bytes,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_is_judged_before_the_body() {
        let check = Check { contains: Some(b"good".to_vec()), ..Check::default() };
        let answer = |status, kept: &'static [u8]| Answer {
            status,
            body_bytes: kept.len() as u64,
            kept,
            begun: 0,
            sent: 0,
            first_byte: 1,
            done: 2,
        };
        assert_eq!(fault(&check, &answer(200, b"all good")), None);
        assert_eq!(fault(&check, &answer(200, b"bad")), Some(Failure::Body));
        assert_eq!(fault(&check, &answer(500, b"bad")), Some(Failure::Status));
    }
}
