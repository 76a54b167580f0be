//! The files that TLS settings name, and what was read of them: an input of judge and compiler like the
//! manifests, so that neither reads a file.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use super::destination_rule::{ClientTlsSettings, DestinationRule};
use super::{Object, Origin, ResourceSet, credential};
use crate::tls::settings::{Bytes, Identity};

/// The folders in which the certificate of a workload in a mesh may be. The first that has it is used, as
/// by Istio's agent.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MeshFolders(Vec<PathBuf>);

impl Default for MeshFolders {
    fn default() -> MeshFolders {
        let folders = ["/var/run/secrets/workload-spiffe-credentials", "/etc/certs"];
        MeshFolders(folders.map(PathBuf::from).to_vec())
    }
}

impl MeshFolders {
    /// This one alone.
    pub fn only(folder: PathBuf) -> MeshFolders {
        MeshFolders(vec![folder])
    }

    /// Pair and authorities of each, by the names that Istio's agent gives them.
    pub fn files(&self) -> impl Iterator<Item = [CredentialFile; 2]> {
        self.0.iter().map(|folder| {
            let (certificate, key) = (folder.join("cert-chain.pem"), folder.join("key.pem"));
            [
                CredentialFile::Identity { certificate, key },
                CredentialFile::Authorities(folder.join("root-cert.pem")),
            ]
        })
    }
}

/// What is read together: both files of a pair change at once, or not at all.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CredentialFile {
    /// A certificate chain and its key.
    Identity {
        /// The chain, PEM.
        certificate: PathBuf,
        /// The key, PEM.
        key: PathBuf,
    },
    /// Authorities, PEM.
    Authorities(PathBuf),
    /// Revocation lists, PEM.
    Revocations(PathBuf),
}

/// A path as it is written: a relative one is relative to the manifest that names it, so that `check`
/// and `run` mean the same file wherever they are started.
fn path(origin: &Origin, written: &str) -> PathBuf {
    origin.file().parent().unwrap_or_else(|| Path::new("")).join(written)
}

impl CredentialFile {
    /// A pair, as the manifest at `origin` writes it.
    pub fn identity(origin: &Origin, certificate: &str, key: &str) -> CredentialFile {
        let (certificate, key) = (path(origin, certificate), path(origin, key));
        CredentialFile::Identity { certificate, key }
    }

    /// Authorities, as the manifest at `origin` writes it.
    pub fn authorities(origin: &Origin, written: &str) -> CredentialFile {
        CredentialFile::Authorities(path(origin, written))
    }

    /// Revocation lists, as the manifest at `origin` writes it.
    pub fn revocations(origin: &Origin, written: &str) -> CredentialFile {
        CredentialFile::Revocations(path(origin, written))
    }

    /// Its files.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        let (first, second) = match self {
            CredentialFile::Identity { certificate, key } => (certificate, Some(key)),
            CredentialFile::Authorities(path) | CredentialFile::Revocations(path) => (path, None),
        };
        std::iter::once(first).chain(second).map(PathBuf::as_path)
    }
}

impl fmt::Display for CredentialFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, path) in self.paths().enumerate() {
            let and = if index > 0 { " and " } else { "" };
            write!(f, "{and}{}", path.display())?;
        }
        Ok(())
    }
}

/// What good files hold.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum FileContent {
    /// Of a pair.
    Identity(Identity),
    /// Of one file.
    List(Bytes),
}

/// What is known of files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct FileState {
    /// The last good version; none: there was none since the start.
    pub content: Option<FileContent>,
    /// Why the newest version is not good, with the path.
    pub problem: Option<String>,
}

/// All files that are named, as they were read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct CredentialFiles {
    files: BTreeMap<CredentialFile, FileState>,
    mesh: MeshFolders,
}

impl CredentialFiles {
    /// What is known of these files.
    pub fn new(
        mesh: MeshFolders,
        files: impl IntoIterator<Item = (CredentialFile, FileState)>,
    ) -> CredentialFiles {
        CredentialFiles { files: files.into_iter().collect(), mesh }
    }

    /// Where the certificate of this workload in a mesh is looked for.
    pub fn mesh_folders(&self) -> &MeshFolders {
        &self.mesh
    }

    /// What is known of a file; none: it was not looked at.
    pub fn get(&self, file: &CredentialFile) -> Option<&FileState> {
        self.files.get(file)
    }

    /// The last good version of a pair.
    pub fn identity(&self, file: &CredentialFile) -> Option<&Identity> {
        match self.get(file)?.content.as_ref()? {
            FileContent::Identity(identity) => Some(identity),
            FileContent::List(_) => None,
        }
    }

    /// The last good version of authorities or revocation lists.
    pub fn list(&self, file: &CredentialFile) -> Option<&Bytes> {
        match self.get(file)?.content.as_ref()? {
            FileContent::List(bytes) => Some(bytes),
            FileContent::Identity(_) => None,
        }
    }

    /// The certificate of this workload in a mesh, with its authorities.
    pub fn mesh(&self) -> Option<(&Identity, &Bytes)> {
        self.mesh
            .files()
            .find_map(|[pair, authorities]| Some((self.identity(&pair)?, self.list(&authorities)?)))
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&CredentialFile, &FileState)> {
        self.files.iter()
    }
}

impl FromIterator<(CredentialFile, FileState)> for CredentialFiles {
    fn from_iter<T: IntoIterator<Item = (CredentialFile, FileState)>>(files: T) -> Self {
        CredentialFiles::new(MeshFolders::default(), files)
    }
}

/// Every `tls` of a DestinationRule with its field.
pub fn client_settings(
    rule: &Object<DestinationRule>,
) -> impl Iterator<Item = (String, &ClientTlsSettings)> {
    let spec = &rule.spec;
    let whole = spec.traffic_policy.iter().map(|policy| ("spec.trafficPolicy".to_owned(), policy));
    let subsets = spec.subsets.iter().enumerate().filter_map(|(index, subset)| {
        Some((format!("spec.subsets[{index}].trafficPolicy"), subset.traffic_policy.as_ref()?))
    });
    whole.chain(subsets).flat_map(|(field, policy)| {
        let ports = policy.port_level_settings.iter().enumerate();
        let ports: Vec<_> = ports
            .filter_map(|(index, settings)| {
                let tls = settings.tls.as_ref()?;
                Some((format!("{field}.portLevelSettings[{index}].tls"), tls))
            })
            .collect();
        policy.tls.as_ref().map(|tls| (format!("{field}.tls"), tls)).into_iter().chain(ports)
    })
}

/// Every file that the Gateways and DestinationRules name, those of a mesh in these folders.
pub fn named_by(resources: &ResourceSet, mesh: &MeshFolders) -> BTreeSet<CredentialFile> {
    let mut named = BTreeSet::new();
    for object in resources.gateways() {
        for tls in object.spec.servers.iter().filter_map(|server| server.tls.as_ref()) {
            let sources = credential::of_server(tls, &object.origin);
            named.extend(sources.iter().flat_map(|sources| sources.files(mesh)));
        }
    }
    for object in resources.destination_rules() {
        for (_, tls) in client_settings(object) {
            let sources = credential::of_client(tls, &object.origin);
            named.extend(sources.iter().flat_map(|sources| sources.files(mesh)));
        }
    }
    named
}
