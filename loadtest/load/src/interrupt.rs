//! Ctrl-C ends a run with its report; a second one ends the process at once.

use std::sync::atomic::{AtomicBool, Ordering};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

extern "C" fn note(signal: libc::c_int) {
    INTERRUPTED.store(true, Ordering::Relaxed);
    // SAFETY: `signal` may be called from a handler; from now on the signal does what it does by default.
    unsafe {
        libc::signal(signal, libc::SIG_DFL);
    }
}

/// From now on SIGINT and SIGTERM set the flag that is returned.
pub(crate) fn watch() -> &'static AtomicBool {
    let handler = note as extern "C" fn(libc::c_int);
    for signal in [libc::SIGINT, libc::SIGTERM] {
        // SAFETY: the handler only does what is allowed in one.
        unsafe {
            libc::signal(signal, handler as libc::sighandler_t);
        }
    }
    &INTERRUPTED
}
