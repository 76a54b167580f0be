//! Reading the files with certificates that manifests name: the last good version of each, and whether
//! one has changed since. A Kubernetes volume, whose links are swapped, is seen by the file that a path
//! leads to.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::config::credential_files::{
    CredentialFile, CredentialFiles, FileContent, FileState, MeshFolders,
};
use crate::limits::CREDENTIAL_FILE_BYTES_MAX;
use crate::tls::pem::{self, IdentityError};
use crate::tls::settings::{Bytes, Identity};

/// What tells two versions of a file apart; none: it cannot be looked at.
type Signature = Option<(u64, u64, u64, i64, i64, i64, i64)>;

/// The files in force.
#[derive(Debug, Default)]
pub struct CredentialFileStore {
    files: CredentialFiles,
    signatures: BTreeMap<PathBuf, Signature>,
}

/// What reading came to. Nothing of it is in force before [`CredentialFileStore::commit`].
#[derive(Debug, Default)]
pub struct FileReading {
    /// What is known of every file now.
    pub files: CredentialFiles,
    signatures: BTreeMap<PathBuf, Signature>,
}

impl CredentialFileStore {
    /// Nothing is read yet; the certificate of a mesh is to be looked for in these folders.
    pub fn new(mesh: MeshFolders) -> CredentialFileStore {
        let files = CredentialFiles::new(mesh, []);
        CredentialFileStore { files, signatures: BTreeMap::new() }
    }

    /// What is in force.
    pub fn files(&self) -> &CredentialFiles {
        &self.files
    }

    /// Has one of the files changed since it was read?
    pub fn changed(&self) -> bool {
        self.signatures.iter().any(|(path, known)| signature(path) != *known)
    }

    /// Look at these files; those that did not change are not read again.
    pub fn read(&self, wanted: &BTreeSet<CredentialFile>) -> FileReading {
        // Before the files are read: a change between the two is seen by the next look.
        let signatures: BTreeMap<PathBuf, Signature> = wanted
            .iter()
            .flat_map(CredentialFile::paths)
            .map(|path| (path.to_owned(), signature(path)))
            .collect();
        let is_same = |path: &Path| {
            self.signatures.get(path).is_some_and(|known| signatures.get(path) == Some(known))
        };
        let files = wanted.iter().map(|file| {
            let known = self.files.get(file);
            let state = match known.filter(|_| file.paths().all(is_same)) {
                Some(known) => known.clone(),
                None => match read(file) {
                    Ok(content) => FileState { content: Some(content), problem: None },
                    Err(problem) => FileState {
                        content: known.and_then(|known| known.content.clone()),
                        problem: Some(problem),
                    },
                },
            };
            (file.clone(), state)
        });
        let files = CredentialFiles::new(self.files.mesh_folders().clone(), files);
        FileReading { files, signatures }
    }

    /// Put what was read in force.
    pub fn commit(&mut self, reading: FileReading) {
        self.files = reading.files;
        self.signatures = reading.signatures;
    }
}

fn signature(path: &Path) -> Signature {
    // Of the file that links lead to: a swapped link is another file.
    let data = fs::metadata(path).ok()?;
    Some((
        data.dev(),
        data.ino(),
        data.len(),
        data.mtime(),
        data.mtime_nsec(),
        data.ctime(),
        data.ctime_nsec(),
    ))
}

/// Read and judge; the error names the file.
fn read(file: &CredentialFile) -> Result<FileContent, String> {
    match file {
        CredentialFile::Identity { certificate, key } => {
            let (chain, private_key) = (bytes(certificate)?, bytes(key)?);
            pem::check_identity(&chain.0, &private_key.0).map_err(|error| match error {
                IdentityError::Chain(error) => format!("{} {error}", certificate.display()),
                IdentityError::Key(error) => format!("{} {error}", key.display()),
                IdentityError::Mismatch => format!(
                    "the key {} does not belong to the certificate {}",
                    key.display(),
                    certificate.display()
                ),
            })?;
            Ok(FileContent::Identity(Identity { chain, key: private_key, ocsp_staple: None }))
        }
        CredentialFile::Authorities(path) => list(path, pem::check_authorities),
        CredentialFile::Revocations(path) => list(path, pem::check_revocations),
    }
}

fn list(path: &Path, check: fn(&[u8]) -> Result<(), pem::PemError>) -> Result<FileContent, String> {
    let bytes = bytes(path)?;
    check(&bytes.0).map_err(|error| format!("{} {error}", path.display()))?;
    Ok(FileContent::List(bytes))
}

fn bytes(path: &Path) -> Result<Bytes, String> {
    let unreadable = |error: io::Error| format!("{} cannot be read ({error})", path.display());
    // A pipe would be waited for without end.
    if !fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(format!("{} is no file", path.display()));
    }
    let mut bytes = Vec::new();
    let most = CREDENTIAL_FILE_BYTES_MAX as u64 + 1;
    File::open(path).map_err(unreadable)?.take(most).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() > CREDENTIAL_FILE_BYTES_MAX {
        return Err(format!(
            "{} is larger than {} MiB",
            path.display(),
            CREDENTIAL_FILE_BYTES_MAX / (1024 * 1024)
        ));
    }
    Ok(Bytes(bytes))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn made(name: &str) -> (String, String) {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).expect("a certificate");
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    /// A pair in a volume of Kubernetes: each file is a link into a folder that is swapped.
    struct Volume {
        folder: tempfile::TempDir,
        versions: usize,
    }

    impl Volume {
        fn new() -> Volume {
            let folder = tempfile::TempDir::new().expect("a folder");
            for name in ["tls.crt", "tls.key"] {
                symlink(Path::new("..data").join(name), folder.path().join(name)).expect("a link");
            }
            Volume { folder, versions: 0 }
        }

        fn swap(&mut self, chain: &str, key: &str) {
            self.versions += 1;
            let version = format!("..version-{}", self.versions);
            let path = self.folder.path().join(&version);
            fs::create_dir(&path).expect("a folder");
            fs::write(path.join("tls.crt"), chain).expect("written");
            fs::write(path.join("tls.key"), key).expect("written");
            let link = self.folder.path().join("..data_tmp");
            symlink(&version, &link).expect("a link");
            fs::rename(link, self.folder.path().join("..data")).expect("swapped");
        }

        fn pair(&self) -> CredentialFile {
            CredentialFile::Identity {
                certificate: self.folder.path().join("tls.crt"),
                key: self.folder.path().join("tls.key"),
            }
        }
    }

    fn look(store: &mut CredentialFileStore, file: &CredentialFile) -> FileState {
        let reading = store.read(&BTreeSet::from([file.clone()]));
        store.commit(reading);
        store.files().get(file).cloned().expect("looked at")
    }

    fn chain(state: &FileState) -> Option<Vec<u8>> {
        match state.content.as_ref()? {
            FileContent::Identity(identity) => Some(identity.chain.0.clone()),
            FileContent::List(bytes) => Some(bytes.0.clone()),
        }
    }

    #[test]
    fn a_volume_that_is_swapped_is_read_again() {
        let (mut volume, mut store) = (Volume::new(), CredentialFileStore::default());
        let (one, two) = (made("one.com"), made("two.com"));
        volume.swap(&one.0, &one.1);
        let pair = volume.pair();
        assert!(!store.changed(), "nothing is followed yet");
        assert_eq!(chain(&look(&mut store, &pair)), Some(one.0.clone().into_bytes()));
        assert!(!store.changed());
        volume.swap(&two.0, &two.1);
        assert!(store.changed());
        let state = look(&mut store, &pair);
        assert_eq!((chain(&state), state.problem), (Some(two.0.into_bytes()), None));
        assert!(!store.changed());
    }

    #[test]
    fn the_last_good_pair_stays_whole() {
        let (mut volume, mut store) = (Volume::new(), CredentialFileStore::default());
        let (one, two) = (made("one.com"), made("two.com"));
        let pair = volume.pair();
        let state = look(&mut store, &pair);
        assert_eq!(state.content, None);
        let problem = state.problem.expect("there is none yet");
        assert!(problem.contains("tls.crt cannot be read (No such file"), "{problem}");
        volume.swap(&one.0, &one.1);
        assert!(store.changed(), "it is followed although it is not there");
        look(&mut store, &pair);
        // The new certificate comes before its key.
        volume.swap(&two.0, &one.1);
        let state = look(&mut store, &pair);
        assert_eq!(chain(&state), Some(one.0.clone().into_bytes()));
        let problem = state.problem.expect("a mismatch");
        assert!(problem.contains("does not belong to the certificate"), "{problem}");
        volume.swap(&two.0, "");
        let problem = look(&mut store, &pair).problem.expect("no key");
        assert!(problem.contains("tls.key has no private key"), "{problem}");
        volume.swap(&two.0, &two.1);
        let state = look(&mut store, &pair);
        assert_eq!((chain(&state), state.problem), (Some(two.0.into_bytes()), None));
    }

    #[test]
    fn a_file_that_goes_stays_in_use_until_nobody_names_it() {
        let folder = tempfile::TempDir::new().expect("a folder");
        let path = folder.path().join("ca.pem");
        let list = CredentialFile::Authorities(path.clone());
        let mut store = CredentialFileStore::default();
        let (one, _) = made("one.com");
        fs::write(&path, &one).expect("written");
        look(&mut store, &list);
        fs::remove_file(&path).expect("removed");
        assert!(store.changed());
        let state = look(&mut store, &list);
        assert_eq!(chain(&state), Some(one.into_bytes()));
        assert!(state.problem.is_some());
        let nothing = store.read(&BTreeSet::new());
        store.commit(nothing);
        assert_eq!(store.files().iter().count(), 0);
        assert_eq!(look(&mut store, &list).content, None);
    }

    #[test]
    fn what_is_no_file_of_sane_size_is_not_read() {
        let folder = tempfile::TempDir::new().expect("a folder");
        let problem = |file: CredentialFile| {
            look(&mut CredentialFileStore::default(), &file).problem.expect("a problem")
        };
        let said = problem(CredentialFile::Authorities(folder.path().to_owned()));
        assert!(said.ends_with("is no file"), "{said}");
        let large = folder.path().join("large");
        fs::write(&large, vec![b' '; CREDENTIAL_FILE_BYTES_MAX + 1]).expect("written");
        let said = problem(CredentialFile::Revocations(large.clone()));
        assert!(said.ends_with("larger than 1 MiB"), "{said}");
        fs::write(&large, "x").expect("written");
        let said = problem(CredentialFile::Revocations(large));
        assert!(said.contains("has no revocation list"), "{said}");
    }
}
