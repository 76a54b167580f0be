//! Manifests → snapshot: read, validate, compile, with what is bad left out.

use std::path::PathBuf;

use super::store::{self, Candidate, ObjectStatus, ObjectStore};
use crate::compile::{self, CompileOptions};
use crate::config::{self, Diagnostic, Severity};
use crate::metrics::SharedLabels;
use crate::snapshot::Snapshot;
use crate::validate::{self, ValidateOptions};

/// Reads the manifests and remembers what is in force.
pub struct Reloader {
    paths: Vec<PathBuf>,
    validate: ValidateOptions,
    compile: CompileOptions,
    labels: SharedLabels,
    store: ObjectStore,
    generation: u64,
    fingerprint: u64,
}

/// What reading came to. Nothing of it is in force before [`Reloader::commit`].
pub struct Reading {
    /// What the workers would route by.
    pub snapshot: Snapshot,
    /// Everything that was found, errors first in the order of files.
    pub diagnostics: Vec<Diagnostic>,
    candidate: Candidate,
}

impl Reading {
    /// Tells a reading from one of other manifests.
    pub fn fingerprint(&self) -> u64 {
        self.candidate.fingerprint
    }

    /// How many errors were found.
    pub fn errors(&self) -> usize {
        self.diagnostics.iter().filter(|found| found.severity == Severity::Error).count()
    }
}

impl Reloader {
    /// Nothing is in force yet.
    pub fn new(
        paths: Vec<PathBuf>,
        validate: ValidateOptions,
        compile: CompileOptions,
        labels: SharedLabels,
    ) -> Reloader {
        let store = ObjectStore::default();
        Reloader { paths, validate, compile, labels, store, generation: 0, fingerprint: 0 }
    }

    /// Read everything.
    pub fn read(&self) -> Reading {
        let mut candidate = self.store.candidate(config::load(&self.paths));
        let mut diagnostics = std::mem::take(&mut candidate.diagnostics);
        let found = validate::validate(&candidate.resources(), &self.validate);
        self.store.refuse(&mut candidate, &store::errors_by_object(&found));
        diagnostics.extend(found);
        let compiled = {
            let mut labels = self.labels.write().unwrap_or_else(|poisoned| poisoned.into_inner());
            compile::compile(&candidate.resources(), &self.compile, &mut labels)
        };
        diagnostics.extend(compiled.diagnostics);
        let mut snapshot = compiled.snapshot;
        snapshot.generation = self.generation + 1;
        Reading { snapshot, diagnostics, candidate }
    }

    /// Put a reading in force.
    pub fn commit(&mut self, reading: Reading) -> (Snapshot, Vec<ObjectStatus>) {
        self.generation = reading.snapshot.generation;
        self.fingerprint = reading.fingerprint();
        self.store.commit(reading.candidate);
        (reading.snapshot, self.store.statuses(&reading.diagnostics))
    }

    /// Are these the manifests that were read last?
    pub fn is_same(&self, reading: &Reading) -> bool {
        self.fingerprint == reading.fingerprint()
    }

    /// How many objects are refused now.
    pub fn refused_count(&self) -> usize {
        self.store.refused_count()
    }
}
