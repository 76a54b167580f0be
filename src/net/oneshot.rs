//! A value handed from one task to another of the same worker.

use std::cell::RefCell;
use std::rc::Rc;
use std::task::{Poll, Waker};

struct Slot<T> {
    value: Option<T>,
    waker: Option<Waker>,
    sender_gone: bool,
}

/// The giving side.
pub struct Sender<T>(Rc<RefCell<Slot<T>>>);

/// The waiting side.
pub struct Receiver<T>(Rc<RefCell<Slot<T>>>);

/// A pair of the two.
pub fn channel<T>() -> (Sender<T>, Receiver<T>) {
    let slot = Rc::new(RefCell::new(Slot { value: None, waker: None, sender_gone: false }));
    (Sender(Rc::clone(&slot)), Receiver(slot))
}

impl<T> Sender<T> {
    /// Does somebody still wait for the value, or may begin to?
    pub fn is_awaited(&self) -> bool {
        Rc::strong_count(&self.0) > 1
    }

    /// Give the value; it comes back when nobody waits for it any more.
    pub fn send(self, value: T) -> Result<(), T> {
        if !self.is_awaited() {
            return Err(value);
        }
        self.0.borrow_mut().value = Some(value);
        Ok(())
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let waker = {
            let mut slot = self.0.borrow_mut();
            slot.sender_gone = true;
            slot.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T> Receiver<T> {
    /// Wait for the value; `None` when the sender went away without giving one.
    pub async fn receive(self) -> Option<T> {
        std::future::poll_fn(|context| {
            let mut slot = self.0.borrow_mut();
            if let Some(value) = slot.value.take() {
                return Poll::Ready(Some(value));
            }
            if slot.sender_gone {
                return Poll::Ready(None);
            }
            slot.waker = Some(context.waker().clone());
            Poll::Pending
        })
        .await
    }
}
