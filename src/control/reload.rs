//! Manifests → snapshot: read, validate, compile, with what is bad left out.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Mutex;

use super::credential_files::{CredentialFileStore, FileReading};
use super::store::{self, Candidate, ObjectStatus, ObjectStore};
use crate::compile::{self, CompileOptions, Compiled, DnsAnswers, TlsSides};
use crate::config::credential_files::{self, CredentialFiles, MeshFolders};
use crate::config::{self, Diagnostic, ResourceKey, ResourceSet, Severity};
use crate::metrics::SharedLabels;
use crate::snapshot::Snapshot;
use crate::validate::{self, ValidateOptions};

/// Reads the manifests and remembers what is in force.
pub struct Reloader {
    paths: Vec<PathBuf>,
    validate: ValidateOptions,
    compile: CompileOptions,
    labels: SharedLabels,
    /// Reading changes nothing but what is kept for the next time.
    sides: Mutex<TlsSides>,
    answers: DnsAnswers,
    store: ObjectStore,
    files: CredentialFileStore,
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
    files: FileReading,
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
            sides: Mutex::default(),
            answers: DnsAnswers::default(),
            store: ObjectStore::default(),
            files: CredentialFileStore::default(),
            diagnostics: Vec::new(),
            generation: 0,
            fingerprint: 0,
        }
    }

    /// The certificate of a mesh is in this folder, not where Istio's agent has it.
    pub fn with_mesh_folder(mut self, folder: Option<PathBuf>) -> Reloader {
        if let Some(folder) = folder {
            self.files = CredentialFileStore::new(MeshFolders::only(folder));
        }
        self
    }

    /// What names are resolved to from now on.
    pub fn set_answers(&mut self, answers: DnsAnswers) {
        self.answers = answers;
    }

    /// Read everything.
    pub fn read(&self) -> Reading {
        let mut candidate = self.store.candidate(config::load(&self.paths));
        let mut diagnostics = std::mem::take(&mut candidate.diagnostics);
        // Those of last good versions, too: one may come back.
        let mesh = self.files.files().mesh_folders();
        let mut wanted = credential_files::named_by(&candidate.resources(), mesh);
        wanted.extend(credential_files::named_by(&self.store.resources(), mesh));
        let files = self.files.read(&wanted);
        let found =
            validate::validate_with_files(&candidate.resources(), &self.validate, &files.files);
        self.store.refuse(&mut candidate, &store::errors_by_object(&found));
        let compiled = self.compile(&candidate.resources(), &files.files);
        // What is missing for TLS is told by both; the compiler knows what it comes to.
        let told: HashSet<_> = compiled.diagnostics.iter().map(subject).collect();
        diagnostics.extend(found.into_iter().filter(|found| !told.contains(&subject(found))));
        diagnostics.extend(compiled.diagnostics.iter().cloned());
        let snapshot = compiled.snapshot;
        Reading { snapshot, diagnostics, candidate, files }
    }

    /// The same reading with the answers of now.
    pub fn compile_again(&self, reading: Reading) -> Reading {
        let resources = reading.candidate.resources();
        let snapshot = self.compile(&resources, &reading.files.files).snapshot;
        Reading { snapshot, ..reading }
    }

    /// The objects in force with the answers of now: a new generation. Nothing is read or judged.
    pub fn renew(&mut self) -> (Snapshot, Vec<ObjectStatus>, &[Diagnostic]) {
        let snapshot = self.compile(&self.store.resources(), self.files.files()).snapshot;
        self.generation = snapshot.generation;
        self.sides_in_force();
        (snapshot, self.store.statuses(&self.diagnostics), &self.diagnostics)
    }

    fn compile(&self, resources: &ResourceSet, files: &CredentialFiles) -> Compiled {
        let mut labels = self.labels.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        let mut sides = self.sides.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let mut compiled = compile::compile(
            resources,
            &self.compile,
            &self.answers,
            files,
            &mut labels,
            &mut sides,
        );
        compiled.snapshot.generation = self.generation + 1;
        compiled
    }

    fn sides_in_force(&mut self) {
        self.sides.get_mut().unwrap_or_else(|poisoned| poisoned.into_inner()).in_force();
    }

    /// Put a reading in force: the one that was compiled last.
    pub fn commit(&mut self, reading: Reading) -> (Snapshot, Vec<ObjectStatus>) {
        self.generation = reading.snapshot.generation;
        self.fingerprint = reading.fingerprint();
        self.store.commit(reading.candidate);
        self.files.commit(reading.files);
        self.diagnostics = reading.diagnostics;
        self.sides_in_force();
        (reading.snapshot, self.store.statuses(&self.diagnostics))
    }

    /// The reading, unless it is of the manifests that were read last and of the same files.
    pub fn unless_same(&mut self, reading: Reading) -> Option<Reading> {
        let same =
            self.fingerprint == reading.fingerprint() && reading.files.files == *self.files.files();
        if !same {
            return Some(reading);
        }
        // Files that were written as they were are not looked into again.
        self.files.commit(reading.files);
        None
    }

    /// Has a file that the manifests name changed since it was read?
    pub fn files_changed(&self) -> bool {
        self.files.changed()
    }

    /// How many objects are refused now.
    pub fn refused_count(&self) -> usize {
        self.store.refused_count()
    }
}

/// What a finding is about, whatever its words are.
fn subject(found: &Diagnostic) -> (&'static str, Option<&ResourceKey>, &str) {
    (found.code, found.resource.as_ref(), &found.field)
}
