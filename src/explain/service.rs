//! Explanations for the admin server, on a thread of their own: what stands in for a worker needs a
//! runtime as workers have one, and must hold up neither them nor the control loop.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;

use super::answer::{Explainer, Question};
use super::{ExplainError, Table};
use crate::limits::EXPLAIN_QUESTIONS_MAX;
use crate::net::runtime::{self, Driver};
use crate::snapshot::Snapshot;

type Answer = Box<dyn FnOnce(Result<Value, ExplainError>) + Send>;

struct Job {
    snapshot: Arc<Snapshot>,
    question: Question,
    answer: Answer,
}

/// The way to the thread, which starts with the first question.
#[derive(Default)]
pub struct ExplainService(Mutex<Option<SyncSender<Job>>>);

impl std::fmt::Debug for ExplainService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ExplainService")
    }
}

impl ExplainService {
    /// Explain by `snapshot` and call `answer` with it, on the thread. The answer has the generation
    /// too. While it is worked out the thread holds a copy of the snapshot, as large as a worker's.
    ///
    /// # Errors
    /// When too many wait, or no thread can be started; then `answer` is not called. Nor is it if
    /// working it out fails altogether.
    pub fn ask(
        &self,
        snapshot: Arc<Snapshot>,
        question: Question,
        answer: impl FnOnce(Result<Value, ExplainError>) + Send + 'static,
    ) -> Result<(), ExplainError> {
        let mut sender = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut job = Job { snapshot, question, answer: Box::new(answer) };
        if let Some(running) = &*sender {
            match running.try_send(job) {
                Ok(()) => return Ok(()),
                Err(TrySendError::Full(_)) => return Err(ExplainError::Busy),
                // It ended, for whatever reason: a new one may do better.
                Err(TrySendError::Disconnected(back)) => job = back,
            }
        }
        let (started, jobs) = sync_channel(EXPLAIN_QUESTIONS_MAX);
        std::thread::Builder::new().name("explain".into()).spawn(move || {
            if let Err(error) = runtime::run(Driver::Epoll, serve(jobs)) {
                tracing::error!("the thread of explanations ended: {error}");
            }
        })?;
        let sent = started.try_send(job).map_err(|_| ExplainError::Busy);
        *sender = Some(started);
        sent
    }
}

/// Answer until nobody can ask any more. Nothing else runs on this runtime: it may block.
async fn serve(jobs: Receiver<Job>) {
    let mut explainer = None;
    while let Ok(Job { snapshot, question, answer }) = jobs.recv() {
        if explainer.is_none() {
            match Explainer::new(Driver::Epoll).await {
                Ok(made) => explainer = Some(made),
                Err(error) => {
                    answer(Err(error.into()));
                    continue;
                }
            }
        }
        let Some(explainer) = &explainer else { continue };
        let generation = snapshot.generation;
        let table: Table = explainer.load(Snapshot::clone(&snapshot));
        let mut outcome = explainer.explain(&table, &question);
        explainer.forget();
        if let Ok(outcome) = &mut outcome {
            outcome["generation"] = generation.into();
        }
        answer(outcome);
    }
}
