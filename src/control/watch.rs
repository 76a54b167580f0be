//! Following changes of the manifests: inotify on the directories that hold them, debounced.

use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Wait until nothing has changed for this long, as istiod does.
const QUIET: Duration = Duration::from_millis(100);
/// But not longer than this.
const QUIET_MAX: Duration = Duration::from_secs(10);

/// Could a change of this path change what is read? Manifests, and names without an extension:
/// directories, and the links by which Kubernetes swaps a volume. A log file beside the manifests
/// must not cause a reload per line.
fn may_matter(path: &Path) -> bool {
    match path.extension().and_then(|extension| extension.to_str()) {
        None => true,
        Some(extension) => matches!(extension, "yaml" | "yml" | "json"),
    }
}

/// Tells when manifests may have changed.
pub struct ManifestWatcher {
    changes: mpsc::UnboundedReceiver<()>,
    /// When a change came that was not told yet.
    pending: Option<Instant>,
    _watcher: RecommendedWatcher,
}

impl ManifestWatcher {
    /// Watch `paths`. A file is watched through its directory, because editors and Kubernetes
    /// volumes replace files instead of writing to them.
    pub fn new(paths: &[PathBuf]) -> notify::Result<ManifestWatcher> {
        let (sender, changes) = mpsc::unbounded_channel();
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            let relevant = match event {
                Ok(event) => {
                    !matches!(event.kind, EventKind::Access(_))
                        && (event.paths.is_empty()
                            || event.paths.iter().any(|path| may_matter(path)))
                }
                // Events were lost: look at everything.
                Err(_) => true,
            };
            if relevant {
                // The receiver is gone only when the process is ending.
                let _ = sender.send(());
            }
        })?;
        for path in paths {
            if path.is_dir() {
                watcher.watch(path, RecursiveMode::Recursive)?;
            } else {
                let directory = match path.parent() {
                    Some(parent) if !parent.as_os_str().is_empty() => parent,
                    _ => Path::new("."),
                };
                watcher.watch(directory, RecursiveMode::NonRecursive)?;
            }
        }
        Ok(ManifestWatcher { changes, pending: None, _watcher: watcher })
    }

    /// Wait for a change, then until it is quiet. May be dropped and called again: nothing is lost.
    pub async fn changed(&mut self) {
        let since = match self.pending {
            Some(since) => since,
            None => {
                if self.changes.recv().await.is_none() {
                    std::future::pending::<()>().await;
                }
                *self.pending.insert(Instant::now())
            }
        };
        let settle = async {
            while let Ok(Some(())) = tokio::time::timeout(QUIET, self.changes.recv()).await {}
        };
        let _ = tokio::time::timeout_at(since + QUIET_MAX, settle).await;
        self.pending = None;
    }
}

#[cfg(test)]
mod tests {
    use std::task::Poll;
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_change_is_told_although_the_wait_for_it_was_dropped() {
        let directory = tempfile::TempDir::new().expect("a directory");
        let mut watcher = ManifestWatcher::new(&[directory.path().to_owned()]).expect("watched");
        std::fs::write(directory.path().join("a.yaml"), "a").expect("written");
        // Dropped when the change has come and it is not quiet yet.
        while watcher.pending.is_none() {
            let mut dropped = std::pin::pin!(watcher.changed());
            let polled =
                std::future::poll_fn(|task| Poll::Ready(dropped.as_mut().poll(task))).await;
            assert!(polled.is_pending());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let told = tokio::time::timeout(QUIET_MAX * 3, watcher.changed()).await;
        assert!(told.is_ok(), "the change was lost");
    }
}
