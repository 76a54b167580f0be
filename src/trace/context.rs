//! The place of a request in a trace: its ids, and whether its spans are kept.

use super::propagation::{Incoming, Propagation};

/// Where a request stands in a trace. What goes upstream says the same of us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace; never all zero.
    pub trace_id: [u8; 16],
    /// Our span: what the upstream sees as its parent; never all zero.
    pub span_id: [u8; 8],
    /// The span of the caller, when it sent a context.
    pub parent_id: Option<[u8; 8]>,
    /// Are the spans of this trace kept?
    pub sampled: bool,
    /// Does `tracestate` of the caller belong to this trace? Else it goes no further.
    pub keeps_state: bool,
    /// Did the caller send the single field `b3`? Then the upstream gets it too.
    pub b3_single: bool,
    /// The formats that it is written in.
    pub propagation: Propagation,
}

impl TraceContext {
    /// The context of a request that came with `incoming`, with random ids from `random`. `sampled` is
    /// asked when the caller did not decide.
    ///
    /// `own_span` false: no span of ours will be reported. Then the caller's span stays the parent of what
    /// the upstream reports, for a parent that nobody reports would tear the trace apart.
    pub fn new(
        propagation: Propagation,
        incoming: &Incoming,
        own_span: bool,
        mut random: impl FnMut() -> u64,
        sampled: impl FnOnce() -> bool,
    ) -> TraceContext {
        // Zero is the one value that stands for no id.
        let mut id = || random().max(1);
        let parent_id = incoming.parent.map(|parent| parent.span_id);
        let trace_id = incoming.parent.map_or_else(
            || (u128::from(id()) << 64 | u128::from(id())).to_be_bytes(),
            |parent| parent.trace_id,
        );
        let (span_id, parent_id) = match parent_id {
            Some(caller) if !own_span => (caller, None),
            parent_id => (id().to_be_bytes(), parent_id),
        };
        TraceContext {
            trace_id,
            span_id,
            parent_id,
            sampled: incoming.sampled.unwrap_or_else(sampled),
            keeps_state: incoming.keeps_state,
            b3_single: incoming.b3_single,
            propagation,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::propagation::{Format, Parent};

    fn made(incoming: &Incoming, own_span: bool) -> TraceContext {
        let mut next = 0;
        let random = || {
            next += 1;
            next
        };
        TraceContext::new(Propagation::new(&[Format::W3c]), incoming, own_span, random, || true)
    }

    #[test]
    fn a_caller_is_continued_and_its_decision_kept() {
        let parent = Parent { trace_id: [7; 16], span_id: [8; 8] };
        let incoming =
            Incoming { parent: Some(parent), sampled: Some(false), ..Incoming::default() };
        let context = made(&incoming, true);
        assert_eq!((context.trace_id, context.parent_id), ([7; 16], Some([8; 8])));
        assert_eq!(context.span_id, 1u64.to_be_bytes());
        assert!(!context.sampled);
        // Without a decision ours counts.
        let undecided = Incoming { sampled: None, ..incoming };
        assert!(made(&undecided, true).sampled);
        // Without a span of ours the caller's goes on.
        let silent = made(&incoming, false);
        assert_eq!((silent.span_id, silent.parent_id), ([8; 8], None));
    }

    #[test]
    fn a_new_trace_has_no_zero_ids() {
        let zero = || 0;
        let context = TraceContext::new(
            Propagation::new(&[Format::W3c]),
            &Incoming::default(),
            true,
            zero,
            || false,
        );
        assert_ne!(context.trace_id, [0; 16]);
        assert_ne!(context.span_id, [0; 8]);
        assert_eq!((context.parent_id, context.sampled), (None, false));
    }
}
