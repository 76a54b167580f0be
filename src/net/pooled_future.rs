//! Heap slots for futures, reused: a boxed future without an allocation per use.
//!
//! The state of a request is large, the state of an idle connection must be small, so the first is
//! put on the heap for as long as it runs. Doing so with `Box` would cost an allocation per request;
//! a pool of slots of one size costs a push and a pop.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::ptr::NonNull;
use std::rc::Rc;
use std::task::{Context, Poll};

/// Slots kept when free; more are given back to the allocator.
const FREE_SLOTS_MAX: usize = 4096;

/// Slots for futures of one type (that of the first future decides their size; a future of another
/// layout still works, unpooled).
#[derive(Debug)]
pub struct FuturePool {
    layout: Cell<Option<Layout>>,
    free: RefCell<Vec<NonNull<u8>>>,
}

impl FuturePool {
    /// An empty pool.
    pub fn new() -> Rc<FuturePool> {
        Rc::new(FuturePool { layout: Cell::new(None), free: RefCell::new(Vec::new()) })
    }

    /// Put the future that `make` returns into a slot. A closure, so that the future is built in
    /// the slot: passed by value it would be copied twice, kilobytes that are mostly unused yet.
    #[inline(always)]
    pub fn place<'f, F: Future + 'f>(
        self: &Rc<Self>,
        make: impl FnOnce() -> F,
    ) -> PooledFuture<'f, F::Output> {
        let layout = Layout::new::<F>();
        if self.layout.get().is_none() {
            self.layout.set(Some(layout));
        }
        let reused =
            if self.layout.get() == Some(layout) { self.free.borrow_mut().pop() } else { None };
        let slot = match reused {
            Some(slot) => slot,
            None if layout.size() == 0 => NonNull::<F>::dangling().cast(),
            None => {
                // SAFETY: the layout's size is not zero.
                let pointer = unsafe { alloc(layout) };
                NonNull::new(pointer).unwrap_or_else(|| handle_alloc_error(layout))
            }
        };
        let typed = slot.cast::<F>();
        // SAFETY: the slot has F's size and alignment and holds no live value.
        unsafe { typed.write(make()) };
        let future: NonNull<dyn Future<Output = F::Output> + 'f> = typed;
        PooledFuture { future, layout, pool: Rc::clone(self) }
    }

    /// Size in bytes of the futures that it holds, 0 before the first.
    pub fn slot_bytes(&self) -> usize {
        self.layout.get().map_or(0, |layout| layout.size())
    }
}

impl Drop for FuturePool {
    fn drop(&mut self) {
        let Some(layout) = self.layout.get() else { return };
        if layout.size() == 0 {
            return;
        }
        for slot in self.free.borrow_mut().drain(..) {
            // SAFETY: every free slot was allocated with this layout and holds no live value.
            unsafe { dealloc(slot.as_ptr(), layout) };
        }
    }
}

/// A future in a slot; the slot goes back to its pool when this is dropped.
pub struct PooledFuture<'f, T> {
    future: NonNull<dyn Future<Output = T> + 'f>,
    layout: Layout,
    pool: Rc<FuturePool>,
}

impl<T> Future for PooledFuture<'_, T> {
    type Output = T;

    #[inline]
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        // SAFETY: the slot is owned by `self`, is not moved until it is dropped in place, and no
        // other reference to it exists.
        unsafe { Pin::new_unchecked(self.get_mut().future.as_mut()) }.poll(context)
    }
}

impl<T> Drop for PooledFuture<'_, T> {
    fn drop(&mut self) {
        // SAFETY: the slot holds a live value that is dropped exactly once, here.
        unsafe { std::ptr::drop_in_place(self.future.as_ptr()) };
        if self.layout.size() == 0 {
            return;
        }
        let slot = self.future.cast::<u8>();
        let mut free = self.pool.free.borrow_mut();
        if self.pool.layout.get() == Some(self.layout) && free.len() < FREE_SLOTS_MAX {
            free.push(slot);
        } else {
            // SAFETY: the slot was allocated with exactly this layout and is in no list.
            unsafe { dealloc(slot.as_ptr(), self.layout) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Waker;

    fn run<T>(mut future: PooledFuture<'_, T>) -> T {
        let mut context = Context::from_waker(Waker::noop());
        match Pin::new(&mut future).poll(&mut context) {
            Poll::Ready(value) => value,
            Poll::Pending => panic!("the future should be ready"),
        }
    }

    async fn add(left: String, right: u64) -> String {
        format!("{left}{right}")
    }

    #[test]
    fn slots_are_reused_for_the_same_type() {
        let pool = FuturePool::new();
        let first = pool.place(|| add("a".into(), 1));
        let slot = first.future.cast::<u8>();
        assert_eq!(run(first), "a1");
        let second = pool.place(|| add("b".into(), 2));
        assert_eq!(second.future.cast::<u8>(), slot);
        assert_eq!(run(second), "b2");
        assert!(pool.slot_bytes() > 0);
    }

    #[test]
    fn another_layout_works_unpooled() {
        let pool = FuturePool::new();
        assert_eq!(run(pool.place(|| add("a".into(), 1))), "a1");
        let block = [7u8; 100];
        assert_eq!(run(pool.place(|| async move { block.len() })), 100);
        assert_eq!(run(pool.place(|| async {})), ());
    }

    #[test]
    fn a_dropped_future_drops_what_it_owns() {
        let pool = FuturePool::new();
        let owned = Rc::new(());
        let held = Rc::clone(&owned);
        let future = pool.place(|| async move {
            let _held = held;
            std::future::pending::<()>().await;
        });
        assert_eq!(Rc::strong_count(&owned), 2);
        drop(future);
        assert_eq!(Rc::strong_count(&owned), 1);
    }
}
