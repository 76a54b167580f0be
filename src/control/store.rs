//! The objects in force, and what becomes of them when the files change: an object that became bad
//! keeps its last good version, the other changes go in.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};

use crate::config::{Diagnostic, Kind, Loaded, Resource, ResourceKey, ResourceSet, Severity};

/// Why an object is what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectState {
    /// Its newest version is in force.
    Live,
    /// Its newest version was refused; the one before it is in force.
    KeptLastGood,
    /// Refused, and there is no earlier version.
    Refused,
}

/// What is known of one object.
#[derive(Clone, Debug)]
pub struct ObjectStatus {
    /// Which object.
    pub key: ResourceKey,
    /// Its file.
    pub file: PathBuf,
    /// Its line there, from 1.
    pub line: usize,
    /// Is it in force?
    pub state: ObjectState,
    /// What was found in its newest version.
    pub diagnostics: Vec<Diagnostic>,
}

/// An object whose errors were found, by key.
pub type Errors = BTreeMap<ResourceKey, Vec<Diagnostic>>;

/// The objects in force.
#[derive(Debug, Default)]
pub struct ObjectStore {
    live: BTreeMap<ResourceKey, Resource>,
    states: BTreeMap<ResourceKey, ObjectState>,
    refused: BTreeMap<ResourceKey, Origin>,
    unusable: Secrets,
}

/// Secrets that were refused and have no earlier version. They are still there for those who name them:
/// what is served without them is what was told, and nothing else takes their place.
type Secrets = BTreeMap<ResourceKey, Resource>;

/// What reading the files came to, before it is put in force.
#[derive(Debug, Default)]
pub struct Candidate {
    objects: BTreeMap<ResourceKey, Resource>,
    states: BTreeMap<ResourceKey, ObjectState>,
    refused: BTreeMap<ResourceKey, Origin>,
    unusable: Secrets,
    /// Everything that was found while reading.
    pub diagnostics: Vec<Diagnostic>,
    /// Changes when the text of any object does, or the list of files.
    pub fingerprint: u64,
}

impl ObjectStore {
    /// Put what was read beside what is in force.
    pub fn candidate(&self, loaded: Loaded) -> Candidate {
        let mut candidate = Candidate { diagnostics: loaded.notices, ..Candidate::default() };
        let mut unreadable: BTreeSet<PathBuf> = BTreeSet::new();
        let mut hasher = DefaultHasher::new();
        for file in loaded.files {
            file.path.hash(&mut hasher);
            let documents = match file.outcome {
                Ok(documents) => documents,
                Err(diagnostic) => {
                    diagnostic.message.hash(&mut hasher);
                    candidate.diagnostics.push(diagnostic);
                    unreadable.insert(file.path);
                    continue;
                }
            };
            for document in documents {
                document.fingerprint.hash(&mut hasher);
                match (document.key, document.result) {
                    (_, Ok(resource)) => {
                        let key = resource.key();
                        candidate.states.insert(key.clone(), ObjectState::Live);
                        candidate.objects.insert(key, resource);
                    }
                    (Some(key), Err(diagnostics)) => {
                        let origin = origin(&file.path, &diagnostics);
                        candidate.diagnostics.extend(diagnostics);
                        self.keep(&mut candidate, key, origin);
                    }
                    (None, Err(diagnostics)) => {
                        candidate.diagnostics.extend(diagnostics);
                        // Nobody can say which object it was: keep all of this file.
                        unreadable.insert(file.path.clone());
                    }
                }
            }
        }
        candidate.fingerprint = hasher.finish();
        for (key, resource) in &self.live {
            let from_bad_file = unreadable.contains(resource.file());
            if from_bad_file && !candidate.objects.contains_key(key) {
                candidate.objects.insert(key.clone(), resource.clone());
                candidate.states.insert(key.clone(), ObjectState::KeptLastGood);
            }
        }
        candidate
    }

    /// Keep the last good version of an object whose newest is bad.
    fn keep(&self, candidate: &mut Candidate, key: ResourceKey, origin: Origin) {
        match self.live.get(&key) {
            Some(resource) => {
                candidate.states.insert(key.clone(), ObjectState::KeptLastGood);
                candidate.objects.insert(key, resource.clone());
            }
            None => {
                candidate.objects.remove(&key);
                candidate.states.remove(&key);
                candidate.refused.insert(key, origin);
            }
        }
    }

    /// Take the objects with errors out of a candidate: their last good versions come in.
    pub fn refuse(&self, candidate: &mut Candidate, errors: &Errors) {
        for (key, diagnostics) in errors {
            // What was kept is good; only the newest version can be bad.
            if candidate.states.get(key) != Some(&ObjectState::Live) {
                continue;
            }
            let newest = candidate.objects.get(key).cloned();
            let origin = match &newest {
                Some(resource) => (resource.file().to_owned(), resource.line()),
                None => origin(Path::new(""), diagnostics),
            };
            self.keep(candidate, key.clone(), origin);
            let unusable = newest.filter(|_| key.kind == Kind::Secret);
            if let Some(secret) = unusable.filter(|_| candidate.refused.contains_key(key)) {
                candidate.unusable.insert(key.clone(), secret);
            }
        }
    }

    /// Put a candidate in force.
    pub fn commit(&mut self, candidate: Candidate) {
        self.live = candidate.objects;
        self.states = candidate.states;
        self.refused = candidate.refused;
        self.unusable = candidate.unusable;
    }

    /// The objects in force.
    pub fn resources(&self) -> ResourceSet {
        ResourceSet::from_resources(self.live.values().chain(self.unusable.values()).cloned())
    }

    /// How many objects are refused, those with an earlier version in force included.
    pub fn refused_count(&self) -> usize {
        let kept = self.states.values().filter(|state| **state == ObjectState::KeptLastGood);
        self.refused.len() + kept.count()
    }

    /// Every object with its state; `diagnostics` are those of the last reading.
    pub fn statuses(&self, diagnostics: &[Diagnostic]) -> Vec<ObjectStatus> {
        let of = |key: &ResourceKey| {
            let own = diagnostics.iter().filter(|found| found.resource.as_ref() == Some(key));
            own.cloned().collect::<Vec<_>>()
        };
        let live = self.live.iter().map(|(key, resource)| ObjectStatus {
            key: key.clone(),
            file: resource.file().to_owned(),
            line: resource.line(),
            state: self.states.get(key).copied().unwrap_or(ObjectState::Live),
            diagnostics: of(key),
        });
        let refused = self.refused.iter().map(|(key, (file, line))| ObjectStatus {
            key: key.clone(),
            file: file.clone(),
            line: *line,
            state: ObjectState::Refused,
            diagnostics: of(key),
        });
        live.chain(refused).collect()
    }
}

impl Candidate {
    /// Its objects.
    pub fn resources(&self) -> ResourceSet {
        ResourceSet::from_resources(self.objects.values().chain(self.unusable.values()).cloned())
    }
}

/// File and line of an object.
type Origin = (PathBuf, usize);

fn origin(file: &Path, diagnostics: &[Diagnostic]) -> Origin {
    match diagnostics.iter().find_map(|found| found.place.as_ref()) {
        Some(place) => ((*place.file).clone(), place.position.line),
        None => (file.to_owned(), 0),
    }
}

/// The errors among `diagnostics`, by object.
pub fn errors_by_object(diagnostics: &[Diagnostic]) -> Errors {
    let mut errors = Errors::new();
    for found in diagnostics {
        if found.severity == Severity::Error
            && let Some(key) = &found.resource
        {
            errors.entry(key.clone()).or_default().push(found.clone());
        }
    }
    errors
}
