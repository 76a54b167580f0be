//! Manifests → snapshot: read, validate, compile, with what is bad left out.

use std::path::PathBuf;

use super::store::{self, Candidate, ObjectStatus, ObjectStore};
use crate::compile::{self, CompileOptions, Compiled, DnsAnswers};
use crate::config::{self, Diagnostic, ResourceSet, Severity};
use crate::metrics::SharedLabels;
use crate::snapshot::Snapshot;
use crate::validate::{self, ValidateOptions};

/// Reads the manifests and remembers what is in force.
pub struct Reloader {
    paths: Vec<PathBuf>,
    validate: ValidateOptions,
    compile: CompileOptions,
    labels: SharedLabels,
    answers: DnsAnswers,
    store: ObjectStore,
    diagnostics: Vec<Diagnostic>,
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
        Reloader {
            paths,
            validate,
            compile,
            labels,
            answers: DnsAnswers::default(),
            store: ObjectStore::default(),
            diagnostics: Vec::new(),
            generation: 0,
            fingerprint: 0,
        }
    }

    /// What names are resolved to from now on.
    pub fn set_answers(&mut self, answers: DnsAnswers) {
        self.answers = answers;
    }

    /// Read everything.
    pub fn read(&self) -> Reading {
        let mut candidate = self.store.candidate(config::load(&self.paths));
        let mut diagnostics = std::mem::take(&mut candidate.diagnostics);
        let found = validate::validate(&candidate.resources(), &self.validate);
        self.store.refuse(&mut candidate, &store::errors_by_object(&found));
        diagnostics.extend(found);
        let compiled = self.compile(&candidate.resources());
        diagnostics.extend(compiled.diagnostics);
        let snapshot = compiled.snapshot;
        Reading { snapshot, diagnostics, candidate }
    }

    /// The same reading with the answers of now.
    pub fn compile_again(&self, reading: Reading) -> Reading {
        let snapshot = self.compile(&reading.candidate.resources()).snapshot;
        Reading { snapshot, ..reading }
    }

    /// The objects in force with the answers of now: a new generation. Nothing is read or judged.
    pub fn renew(&mut self) -> (Snapshot, Vec<ObjectStatus>, &[Diagnostic]) {
        let snapshot = self.compile(&self.store.resources()).snapshot;
        self.generation = snapshot.generation;
        (snapshot, self.store.statuses(&self.diagnostics), &self.diagnostics)
    }

    fn compile(&self, resources: &ResourceSet) -> Compiled {
        let mut labels = self.labels.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        let mut compiled = compile::compile(resources, &self.compile, &self.answers, &mut labels);
        compiled.snapshot.generation = self.generation + 1;
        compiled
    }

    /// Put a reading in force.
    pub fn commit(&mut self, reading: Reading) -> (Snapshot, Vec<ObjectStatus>) {
        self.generation = reading.snapshot.generation;
        self.fingerprint = reading.fingerprint();
        self.store.commit(reading.candidate);
        self.diagnostics = reading.diagnostics;
        (reading.snapshot, self.store.statuses(&self.diagnostics))
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
