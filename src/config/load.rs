//! Reading manifests from files and directories.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::hash::{Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::deserialize::{Reading, TypeError, closest, from_node};
use super::diagnostic::{Diagnostic, Place, Severity};
use super::node::{self, Node, Position};
use super::{Kind, Object, ObjectMeta, Origin, Resource, ResourceKey, Spec};

/// Largest manifest file.
const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// How deep directories are searched.
const DIRECTORY_DEPTH_MAX: usize = 32;

/// What was read.
#[derive(Debug, Default)]
pub struct Loaded {
    /// Every file, in order.
    pub files: Vec<LoadedFile>,
    /// Kinds that were skipped, one notice each.
    pub notices: Vec<Diagnostic>,
}

/// A file.
#[derive(Debug)]
pub struct LoadedFile {
    /// Its path.
    pub path: PathBuf,
    /// Its objects, or why it as a whole cannot be read.
    pub outcome: Result<Vec<LoadedDocument>, Diagnostic>,
}

/// An object of a file.
#[derive(Debug)]
pub struct LoadedDocument {
    /// Which object it is, as far as it could be told.
    pub key: Option<ResourceKey>,
    /// The object, or what is wrong with it.
    pub result: Result<Resource, Vec<Diagnostic>>,
    /// Changes when its text does.
    pub fingerprint: u64,
}

/// Read files and directories (recursively, `.yaml`, `.yml`, `.json`, hidden names left out), in
/// the order of their names.
pub fn load(paths: &[PathBuf]) -> Loaded {
    let mut search = Search::default();
    for path in paths {
        search.collect(path, 0, true);
    }
    let Search { files, unreadable, .. } = search;
    let mut loader = Loader { seen: HashMap::new(), skipped: BTreeMap::new() };
    let mut loaded = Loaded::default();
    loaded.files.extend(unreadable);
    for path in files {
        let outcome = loader.file(&path);
        loaded.files.push(LoadedFile { path, outcome });
    }
    loaded.notices = loader
        .skipped
        .into_iter()
        .map(|(kind, (count, place))| Diagnostic {
            place: Some(place),
            help: None,
            ..Diagnostic::without_place(
                Severity::Info,
                "RNG0003",
                format!("{count} object(s) of kind {kind} skipped: this gateway does not serve it"),
            )
        })
        .collect();
    loaded
}

/// The files under some paths.
#[derive(Default)]
struct Search {
    files: Vec<PathBuf>,
    unreadable: Vec<LoadedFile>,
    /// Links resolved: a directory that links to itself is searched once, a file is read once.
    seen: HashSet<PathBuf>,
}

impl Search {
    fn fail(&mut self, path: &Path, error: &io::Error) {
        let outcome = Err(unreadable_file(path, error));
        self.unreadable.push(LoadedFile { path: path.to_owned(), outcome });
    }

    /// `named`: by the user, who may name any file.
    fn collect(&mut self, path: &Path, depth: usize, named: bool) {
        let hidden = path
            .file_name()
            .and_then(|name| name.to_str())
            .is_some_and(|name| name.starts_with('.') && name != "." && name != "..");
        if hidden && !named {
            return;
        }
        let found = fs::metadata(path).and_then(|found| Ok((found, fs::canonicalize(path)?)));
        let (metadata, canonical) = match found {
            Ok(found) => found,
            Err(error) => {
                // A file that went away between listing and reading is simply gone.
                if named || error.kind() != io::ErrorKind::NotFound {
                    self.fail(path, &error);
                }
                return;
            }
        };
        let extension = path.extension().and_then(|extension| extension.to_str());
        let manifest = matches!(extension, Some("yaml" | "yml" | "json"));
        if !(metadata.is_dir() || named || manifest) || !self.seen.insert(canonical) {
            return;
        }
        if !metadata.is_dir() {
            self.files.push(path.to_owned());
            return;
        }
        if depth >= DIRECTORY_DEPTH_MAX {
            self.fail(path, &io::Error::other("directories nest too deeply"));
            return;
        }
        let mut entries: Vec<PathBuf> = match fs::read_dir(path) {
            Ok(entries) => {
                entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect()
            }
            Err(error) => {
                self.fail(path, &error);
                return;
            }
        };
        entries.sort();
        for entry in entries {
            self.collect(&entry, depth + 1, false);
        }
    }
}

fn unreadable_file(path: &Path, error: &io::Error) -> Diagnostic {
    Diagnostic {
        help: Some("check the path and its permissions".to_owned()),
        ..Diagnostic::without_place(
            Severity::Error,
            "RNG0001",
            format!("cannot read {}: {error}", path.display()),
        )
    }
}

/// May the text of a file that is not YAML hold a Secret?
fn mentions_secret(text: &str) -> bool {
    text.lines().any(|line| line.contains("kind") && line.contains("Secret"))
}

struct Loader {
    seen: HashMap<ResourceKey, Place>,
    skipped: BTreeMap<String, (usize, Place)>,
}

/// The file that documents come from.
struct Source {
    file: Arc<PathBuf>,
    text: Arc<str>,
}

impl Source {
    fn place(&self, position: Position) -> Place {
        let (file, text) = (Arc::clone(&self.file), Arc::clone(&self.text));
        Place { file, text, position, hidden: false }
    }

    fn error(&self, code: &'static str, position: Position, message: String) -> Diagnostic {
        Diagnostic {
            place: Some(self.place(position)),
            ..Diagnostic::without_place(Severity::Error, code, message)
        }
    }
}

impl Loader {
    #[expect(clippy::result_large_err, reason = "one per file, on the control side")]
    fn file(&mut self, path: &Path) -> Result<Vec<LoadedDocument>, Diagnostic> {
        let read = || -> io::Result<String> {
            if fs::metadata(path)?.len() > FILE_BYTES_MAX {
                return Err(io::Error::other("the file is larger than 64 MiB"));
            }
            String::from_utf8(fs::read(path)?)
                .map_err(|_| io::Error::other("the file is not UTF-8 text"))
        };
        let text = read().map_err(|error| unreadable_file(path, &error))?;
        let source = Source { file: Arc::new(path.to_owned()), text: text.into() };
        let documents = node::parse(&source.text).map_err(|error| {
            let mut found = source.error(
                "RNG0002",
                error.position,
                format!("not valid YAML: {}", error.message),
            );
            found.help = Some("no object of this file is taken until it is mended".to_owned());
            if let Some(place) = &mut found.place {
                place.hidden = mentions_secret(&source.text);
            }
            found
        })?;
        let mut loaded = Vec::new();
        for document in documents {
            let Some(root) = document.root else { continue };
            let duplicates = document
                .duplicates
                .into_iter()
                .map(|error| source.error("RNG0004", error.position, error.message))
                .collect();
            self.document(&source, root, duplicates, &mut loaded);
        }
        Ok(loaded)
    }

    fn document(
        &mut self,
        source: &Source,
        root: Node,
        duplicates: Vec<Diagnostic>,
        loaded: &mut Vec<LoadedDocument>,
    ) {
        let text = |name: &str| root.get(name).and_then(Node::as_str);
        let (Some(api_version), Some(kind)) = (text("apiVersion"), text("kind")) else {
            let mut found = source.error(
                "RNG0005",
                root.position,
                "a document without `apiVersion` and `kind`".to_owned(),
            );
            found.help = Some("every object of Kubernetes and Istio has both".to_owned());
            loaded.push(LoadedDocument { key: None, result: Err(vec![found]), fingerprint: 0 });
            return;
        };
        if kind == "List" && api_version == "v1" {
            if let Some(node::Value::Sequence(items)) =
                root.get("items").map(|items| items.value.clone())
            {
                // A duplicate key belongs to the item that it stands in; before the first one, to
                // all of them.
                let starts: Vec<Position> = items.iter().map(|item| item.position).collect();
                let item_of = |found: &Diagnostic| {
                    let position = found.place.as_ref().map(|place| place.position);
                    starts.partition_point(|start| position.is_some_and(|at| *start <= at))
                };
                for (index, item) in items.into_iter().enumerate() {
                    let own = |found: &&Diagnostic| [0, index + 1].contains(&item_of(found));
                    let own = duplicates.iter().filter(own).cloned().collect();
                    self.document(source, item, own, loaded);
                }
            }
            return;
        }
        let Some(known) = Kind::of(api_version, kind) else {
            if let Some((field, message, help)) = misspelt(api_version, kind) {
                let position = root.locate(field);
                let found = source.error("RNG0005", position, message);
                let result = Err(vec![Diagnostic { help: Some(help), ..found }]);
                loaded.push(LoadedDocument { key: None, result, fingerprint: 0 });
                return;
            }
            let name = format!("{kind} ({api_version})");
            let place = source.place(root.locate("kind"));
            self.skipped.entry(name).or_insert((0, place)).0 += 1;
            return;
        };
        let mut errors = duplicates;
        let meta: Result<ObjectMeta, TypeError> = match root.get("metadata") {
            Some(meta) => from_node(meta, Reading { protobuf: false, ..known.reading() }),
            None => Ok(ObjectMeta::default()),
        };
        // Whatever else is wrong, name and namespace tell which object it is.
        let name_of = |field: &str| {
            root.get("metadata").and_then(|meta| meta.get(field)).and_then(Node::as_str)
        };
        let key = name_of("name").map(|name| ResourceKey {
            kind: known,
            namespace: name_of("namespace").unwrap_or("default").to_owned(),
            name: name.to_owned(),
        });
        let mut hasher = DefaultHasher::new();
        format!("{root:?}").hash(&mut hasher);
        let fingerprint = hasher.finish();
        if key.is_none() {
            let position = root.locate("metadata");
            let message = "an object without `metadata.name`".to_owned();
            errors.push(source.error("RNG0005", position, message));
        }
        let type_error = |error: TypeError| Diagnostic {
            help: error.help,
            ..source.error("IST0106", error.position.unwrap_or(root.position), error.message)
        };
        let meta = match meta {
            Ok(meta) => Some(meta),
            Err(error) => {
                errors.push(type_error(error));
                None
            }
        };
        let root = Arc::new(root.clone());
        let origin = Origin {
            file: Arc::clone(&source.file),
            text: Arc::clone(&source.text),
            root: Arc::clone(&root),
            hidden: known == Kind::Secret,
        };
        let resource = known.read(&root, meta.unwrap_or_default(), origin);
        let resource = match resource {
            Ok(resource) => Some(resource),
            Err(error) => {
                errors.push(type_error(error));
                None
            }
        };
        if let Some(key) = &key {
            let place = source.place(root.locate("metadata.name"));
            if let Some(first) = self.seen.get(key) {
                let mut found = source.error(
                    "RNG0006",
                    place.position,
                    format!("a second {key}: the first one is at {first}"),
                );
                found.help = Some("give one of them another name or namespace".to_owned());
                found.resource = Some(key.clone());
                // The first stays: this one is not the object of that key.
                loaded.push(LoadedDocument { key: None, result: Err(vec![found]), fingerprint });
                return;
            }
            self.seen.insert(key.clone(), place);
        }
        for error in &mut errors {
            error.resource.clone_from(&key);
            if let Some(place) = &mut error.place {
                place.hidden = known == Kind::Secret;
            }
        }
        let result = match resource {
            Some(resource) if errors.is_empty() => Ok(resource),
            _ => Err(errors),
        };
        loaded.push(LoadedDocument { key, result, fingerprint });
    }
}

/// What is wrong with a kind or version of Istio's group, or of ours, that does not exist: field, message, help.
fn misspelt(api_version: &str, kind: &str) -> Option<(&'static str, String, String)> {
    const GROUP: &str = "networking.istio.io";
    const OWN_GROUP: &str = "ringress.io";
    const KINDS: [&str; 10] = [
        "Gateway",
        "VirtualService",
        "DestinationRule",
        "ServiceEntry",
        "Sidecar",
        "EnvoyFilter",
        "WorkloadEntry",
        "WorkloadGroup",
        "ProxyConfig",
        "TrafficExtension",
    ];
    let (group, version) = api_version.split_once('/')?;
    if group == OWN_GROUP {
        let (field, what) = match kind {
            "ServiceLevelObjective" => ("apiVersion", format!("version `{version}` of {kind}")),
            _ => ("kind", format!("kind `{kind}`")),
        };
        let help = format!("there is {OWN_GROUP}/v1alpha1, ServiceLevelObjective");
        return Some((field, format!("{OWN_GROUP} has no {what}"), help));
    }
    if group != GROUP {
        return None;
    }
    if !KINDS.contains(&kind) {
        let help = match closest(kind, &KINDS) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("known kinds: {}", KINDS.join(", ")),
        };
        return Some(("kind", format!("{GROUP} has no kind `{kind}`"), help));
    }
    Kind::of(&format!("{GROUP}/v1"), kind)?;
    let message = format!("{GROUP} has no version `{version}` of {kind}");
    Some(("apiVersion", message, format!("write {GROUP}/v1, v1beta1 or v1alpha3")))
}

impl Kind {
    fn reading(self) -> Reading {
        let kubernetes =
            matches!(self, Kind::Service | Kind::Endpoints | Kind::EndpointSlice | Kind::Secret);
        Reading { protobuf: !kubernetes, secret: self == Kind::Secret }
    }

    /// Read an object of this kind.
    fn read(self, root: &Node, meta: ObjectMeta, origin: Origin) -> Result<Resource, TypeError> {
        fn spec<S: serde::de::DeserializeOwned + Default + Spec>(
            root: &Node,
            meta: ObjectMeta,
            origin: Origin,
        ) -> Result<Object<S>, TypeError> {
            const KNOWN: [&str; 5] = ["apiVersion", "kind", "metadata", "spec", "status"];
            if let node::Value::Mapping(entries) = &root.value
                && let Some(entry) =
                    entries.iter().find(|entry| !KNOWN.contains(&entry.key.as_str()))
            {
                let mut error: TypeError = serde::de::Error::unknown_field(&entry.key, &KNOWN);
                error.position = Some(entry.position);
                return Err(error);
            }
            let spec = match root.get("spec") {
                Some(spec) => from_node(spec, S::KIND.reading())?,
                None => S::default(),
            };
            Ok(Object { meta, spec, origin })
        }
        fn whole<S: serde::de::DeserializeOwned + Spec>(
            root: &Node,
            meta: ObjectMeta,
            origin: Origin,
        ) -> Result<Object<S>, TypeError> {
            Ok(Object { meta, spec: from_node(root, S::KIND.reading())?, origin })
        }
        match self {
            Kind::Gateway => spec(root, meta, origin).map(Resource::Gateway),
            Kind::VirtualService => spec(root, meta, origin).map(Resource::VirtualService),
            Kind::DestinationRule => spec(root, meta, origin).map(Resource::DestinationRule),
            Kind::ServiceEntry => spec(root, meta, origin).map(Resource::ServiceEntry),
            Kind::WorkloadEntry => spec(root, meta, origin).map(Resource::WorkloadEntry),
            Kind::ServiceLevelObjective => {
                spec(root, meta, origin).map(Resource::ServiceLevelObjective)
            }
            Kind::Service => whole(root, meta, origin).map(Resource::Service),
            Kind::EndpointSlice => whole(root, meta, origin).map(Resource::EndpointSlice),
            Kind::Endpoints => whole(root, meta, origin).map(Resource::Endpoints),
            Kind::Secret => whole(root, meta, origin).map(Resource::Secret),
        }
    }
}
