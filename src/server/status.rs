//! What is in force, put into the words of the admin pages.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::admin::report::{
    DiagnosticReport, ObjectReport, ObjectState as ShownState, SnapshotReport, SourceReport,
    StatusReport, VirtualHostReport,
};
use crate::config::Diagnostic;
use crate::control::store::{ObjectState, ObjectStatus};
use crate::snapshot::Snapshot;

/// The report of a publication.
pub(super) fn report(
    snapshot: &Snapshot,
    objects: &[ObjectStatus],
    diagnostics: &[Diagnostic],
    paths: &[PathBuf],
) -> StatusReport {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    StatusReport {
        generation: snapshot.generation,
        published_unix_ms: now.as_millis() as u64,
        sources: paths.iter().map(|path| source(path, objects)).collect(),
        objects: objects.iter().map(object).collect(),
        diagnostics: diagnostics.iter().map(diagnostic).collect(),
        snapshot: SnapshotReport::of(snapshot, virtual_hosts(snapshot)),
    }
}

fn source(path: &PathBuf, objects: &[ObjectStatus]) -> SourceReport {
    let own: Vec<&ObjectStatus> =
        objects.iter().filter(|object| object.file.starts_with(path)).collect();
    let mut files: Vec<&PathBuf> = own.iter().map(|object| &object.file).collect();
    files.sort();
    files.dedup();
    SourceReport { path: path.display().to_string(), files: files.len(), objects: own.len() }
}

fn object(status: &ObjectStatus) -> ObjectReport {
    ObjectReport {
        kind: status.key.kind.as_str().to_owned(),
        namespace: status.key.namespace.clone(),
        name: status.key.name.clone(),
        file: status.file.display().to_string(),
        line: status.line as u32,
        state: match status.state {
            ObjectState::Live => ShownState::Live,
            ObjectState::KeptLastGood => ShownState::KeptLastGood,
            ObjectState::Refused => ShownState::Refused,
        },
        diagnostics: status.diagnostics.iter().map(diagnostic).collect(),
    }
}

fn diagnostic(found: &Diagnostic) -> DiagnosticReport {
    let place = found.place.as_ref();
    let mut message = found.message.clone();
    if !found.field.is_empty() {
        message = format!("{}: {message}", found.field);
    }
    DiagnosticReport {
        severity: found.severity.as_str().to_owned(),
        code: found.code.to_owned(),
        message,
        file: place.map(|place| place.file.display().to_string()).unwrap_or_default(),
        line: place.map_or(0, |place| place.position.line as u32),
        column: place.map_or(0, |place| place.position.column as u32),
    }
}

fn virtual_hosts(snapshot: &Snapshot) -> Vec<VirtualHostReport> {
    let mut shown = Vec::new();
    for listener in &snapshot.listeners {
        let table = listener.route_table().and_then(|table| snapshot.route_tables.get(table));
        let Some(table) = table else { continue };
        shown.extend(table.virtual_hosts().iter().map(|host| VirtualHostReport {
            listener: listener.name.clone(),
            domains: host.domains.clone(),
            routes: host.routes.iter().map(|entry| entry.route.index()).collect(),
        }));
    }
    shown
}
