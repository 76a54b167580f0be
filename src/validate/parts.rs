//! The parts of TLS settings, found in Secrets and files and judged: certificates with their keys,
//! authorities, revocation lists. The one judge of what `check` says of them and of what is served with
//! them; why a part cannot be used has one code and one wording.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;

use crate::config::credential::{self, CredentialError, Named, Secrets, Source, Sources};
use crate::config::credential_files::{CredentialFile, CredentialFiles};
use crate::config::kube::Secret;
use crate::config::{Object, ResourceSet};
use crate::tls::certificate::{self, Certificate};
use crate::tls::pem::{self, IdentityError, PemError};
use crate::tls::settings::{Bytes, Identity, Trust};

/// Where parts are found, and what was found of them.
pub struct Parts<'r> {
    resources: &'r ResourceSet,
    secrets: Secrets<'r>,
    /// The files that were read.
    pub(super) files: &'r CredentialFiles,
    namespace: &'r str,
    /// Every Secret is looked at once in each role: reading keys takes long.
    identities: RefCell<HashMap<&'r str, Result<Option<Certificate>, SecretError>>>,
    authorities: RefCell<HashMap<&'r str, Result<(), SecretError>>>,
}

/// What is wrong with a Secret in a role. Each completes a sentence that begins with the Secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum SecretError {
    /// It has not what the role needs.
    #[error(" {0}")]
    Content(#[from] CredentialError),
    /// A value cannot be used.
    #[error(": its `{0}` {1}")]
    Value(&'static str, PemError),
    /// The second is another's.
    #[error(": its `{1}` does not belong to its `{0}`")]
    Mismatch(&'static str, &'static str),
}

impl SecretError {
    /// The name of the value that it is about.
    pub(super) fn key(&self) -> Option<&'static str> {
        match self {
            SecretError::Content(error) => error.key(),
            SecretError::Value(key, _) | SecretError::Mismatch(_, key) => Some(key),
        }
    }

    /// Is the Secret refused for it? One without authorities may still be good as a pair.
    pub(super) fn refuses(&self) -> bool {
        *self != SecretError::Content(CredentialError::NoAuthorities)
    }
}

/// Why a part cannot be used. The text is the reason without what it comes to.
#[derive(Clone, Debug)]
pub struct Unusable<'r>(pub(super) Reason<'r>);

#[derive(Clone, Debug)]
pub(super) enum Reason<'r> {
    /// No Secret of this name, `namespace/name`; it may be in another namespace.
    NoSecret { wanted: String, elsewhere: Option<&'r str> },
    /// A Secret that cannot be.
    Secret(&'r Object<Secret>, SecretError),
    /// A file that cannot be, and why; without a reason nobody has looked at it.
    File(CredentialFile, Option<String>),
    /// No certificate of a mesh, and why the first place has none; likewise.
    Mesh(Option<String>),
    /// A form of credential name that is not read.
    Form(String),
}

impl fmt::Display for Unusable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Reason::NoSecret { wanted, .. } => {
                write!(f, "there is no Secret {wanted} in these manifests")
            }
            Reason::Secret(secret, error) => {
                write!(f, "Secret {}/{}{error}", secret.meta.namespace, secret.meta.name)
            }
            Reason::File(_, Some(problem)) => f.write_str(problem),
            Reason::File(file, None) => write!(f, "{file} cannot be used"),
            Reason::Mesh(Some(problem)) => {
                write!(f, "no certificate of a mesh is here ({problem})")
            }
            Reason::Mesh(None) => f.write_str("no certificate of a mesh is here"),
            Reason::Form(name) => write!(f, "not honoured yet: `{name}` is not read"),
        }
    }
}

impl Unusable<'_> {
    /// Its code.
    pub fn code(&self) -> &'static str {
        match self.0 {
            Reason::NoSecret { .. } => "IST0101",
            Reason::Secret(..) => "IST0161",
            Reason::File(..) | Reason::Mesh(_) => "RNG0311",
            Reason::Form(_) => "RNG0100",
        }
    }

    /// How to mend it; none: as the code says.
    pub fn help(&self) -> Option<String> {
        Some(match &self.0 {
            Reason::NoSecret { wanted, elsewhere } => {
                let (namespace, name) = wanted.split_once('/')?;
                match elsewhere {
                    Some(other) => format!("move the Secret from {other} to {namespace}"),
                    None => format!("add a Secret `{name}` to namespace {namespace}"),
                }
            }
            Reason::Secret(_, error) if error.refuses() => return None,
            Reason::Secret(..) => {
                "add `ca.crt` to it, or a Secret with the CA whose name ends in `-cacert`"
                    .to_owned()
            }
            Reason::File(..) => return None,
            Reason::Mesh(_) => {
                "mount the workload's certificate at /etc/certs, name its folder by \
                 --mesh-certificates, or use another mode"
                    .to_owned()
            }
            Reason::Form(_) => {
                "name a Secret of the gateway's namespace, without a scheme or a namespace"
                    .to_owned()
            }
        })
    }
}

type Found<'r, T> = Result<T, Unusable<'r>>;

impl<'r> Parts<'r> {
    /// Those in the Secrets of `namespace`, the gateway's, and in `files`.
    pub fn new(
        resources: &'r ResourceSet,
        files: &'r CredentialFiles,
        namespace: &'r str,
    ) -> Parts<'r> {
        Parts {
            resources,
            secrets: Secrets::of(resources, namespace),
            files,
            namespace,
            identities: RefCell::default(),
            authorities: RefCell::default(),
        }
    }

    /// The Secret that a part is in; none: it is in none.
    fn secret(&self, source: &Source, is_identity: bool) -> Found<'r, Option<&'r Object<Secret>>> {
        let (name, found) = match source {
            Source::Secret(name) => (name, self.secrets.get(name)),
            Source::SecretOrBeside(name) if is_identity => (name, self.secrets.get(name)),
            Source::SecretOrBeside(name) => (name, self.secrets.with_authorities(name)),
            _ => return Ok(None),
        };
        found.map(Some).ok_or_else(|| {
            let elsewhere = self.resources.secrets().find(|object| object.meta.name == *name);
            Unusable(Reason::NoSecret {
                wanted: format!("{}/{name}", self.namespace),
                elsewhere: elsewhere.map(|object| object.meta.namespace.as_str()),
            })
        })
    }

    fn file(&self, file: &CredentialFile) -> Unusable<'r> {
        let problem = self.files.get(file).and_then(|state| state.problem.clone());
        Unusable(Reason::File(file.clone(), problem))
    }

    fn mesh(&self) -> Found<'r, (&'r Identity, &'r Bytes)> {
        self.files.mesh().ok_or_else(|| {
            let mesh = self.files.mesh_folders().files().flatten();
            let mut states = mesh.filter_map(|file| self.files.get(&file));
            Unusable(Reason::Mesh(states.find_map(|state| state.problem.clone())))
        })
    }

    /// Certificate and key, not judged.
    fn identity(&self, named: &Named) -> Found<'r, Identity> {
        if let Some(secret) = self.secret(&named.source, true)? {
            let found = credential::identity(&secret.spec);
            return found
                .map(|found| found.identity)
                .map_err(|error| Unusable(Reason::Secret(secret, error.into())));
        }
        match &named.source {
            Source::File(file) => self.files.identity(file).cloned().ok_or_else(|| self.file(file)),
            Source::Unsupported(name) => Err(Unusable(Reason::Form(name.clone()))),
            _ => self.mesh().map(|(identity, _)| identity.clone()),
        }
    }

    /// Authorities or revocation lists, not judged; those of a Secret come with its own revocation lists.
    fn list(&self, named: &Named) -> Found<'r, (Bytes, Option<Bytes>)> {
        if let Some(secret) = self.secret(&named.source, false)? {
            let found = credential::authorities(&secret.spec);
            return found
                .map(|found| (found.authorities, found.revocations))
                .map_err(|error| Unusable(Reason::Secret(secret, error.into())));
        }
        let list = match &named.source {
            Source::File(file) => self.files.list(file).cloned().ok_or_else(|| self.file(file))?,
            Source::Unsupported(name) => return Err(Unusable(Reason::Form(name.clone()))),
            _ => self.mesh()?.1.clone(),
        };
        Ok((list, None))
    }

    /// All identities, and authorities with revocation lists; else the field that has none, and why.
    /// What they hold is judged when a side is made of them, which costs no more than that: should it
    /// fail, [`Parts::judge`] says which part it is.
    pub fn all(&self, sources: &Sources) -> Result<(Vec<Identity>, Trust), (String, Unusable<'r>)> {
        let at = |named: &Named, why: Unusable<'r>| (named.field.clone(), why);
        let mut identities = Vec::new();
        for named in &sources.identities {
            identities.push(self.identity(named).map_err(|why| at(named, why))?);
        }
        let mut trust = Trust::default();
        if let Some(named) = &sources.authorities {
            let (authorities, revocations) = self.list(named).map_err(|why| at(named, why))?;
            trust.authorities = Some(authorities);
            trust.revocations = revocations;
        }
        if let Some(named) = &sources.revocations {
            trust.revocations = Some(self.list(named).map_err(|why| at(named, why))?.0);
        }
        Ok((identities, trust))
    }

    /// The first part that cannot be used, with its field.
    pub fn judge(&self, sources: &Sources) -> Result<(), (String, Unusable<'r>)> {
        let at = |named: &Named, why: Unusable<'r>| (named.field.clone(), why);
        for named in &sources.identities {
            self.judge_identity(named).map_err(|why| at(named, why))?;
        }
        for named in sources.authorities.iter().chain(&sources.revocations) {
            self.judge_list(named).map_err(|why| at(named, why))?;
        }
        Ok(())
    }

    /// Can a certificate be served with its key? What it says; none: nobody can read its names, it is
    /// good all the same.
    pub(super) fn judge_identity(&self, named: &Named) -> Found<'r, Option<Certificate>> {
        let Some(secret) = self.secret(&named.source, true)? else {
            // Files were judged when they were read.
            return Ok(certificate::leaf(&self.identity(named)?.chain.0).ok());
        };
        let mut judged = self.identities.borrow_mut();
        let judged = judged.entry(&secret.meta.name).or_insert_with(|| pair(&secret.spec));
        judged.clone().map_err(|error| Unusable(Reason::Secret(secret, error)))
    }

    /// Are authorities or revocation lists good?
    pub(super) fn judge_list(&self, named: &Named) -> Found<'r, ()> {
        let Some(secret) = self.secret(&named.source, false)? else {
            return self.list(named).map(drop);
        };
        let mut judged = self.authorities.borrow_mut();
        let judged = judged.entry(&secret.meta.name).or_insert_with(|| authorities(&secret.spec));
        judged.clone().map_err(|error| Unusable(Reason::Secret(secret, error)))
    }

    /// Is the Secret of the authorities that of the pair, which was told of already?
    pub(super) fn is_same(&self, identity: &Source, list: &Source) -> bool {
        match (identity, list) {
            (Source::Secret(one), Source::SecretOrBeside(other)) => {
                one == other && self.secrets.with_authorities(other).is_none()
            }
            (Source::Unsupported(one), Source::Unsupported(other)) => one == other,
            (one, other) => *one == Source::Mesh && *other == Source::Mesh,
        }
    }
}

/// Judge a Secret as certificate and key.
fn pair(secret: &Secret) -> Result<Option<Certificate>, SecretError> {
    let found = credential::identity(secret)?;
    let (chain, key) = (&found.identity.chain.0, &found.identity.key.0);
    pem::check_identity(chain, key).map_err(|error| match error {
        IdentityError::Chain(error) => SecretError::Value(found.certificate_key, error),
        IdentityError::Key(error) => SecretError::Value(found.private_key_key, error),
        IdentityError::Mismatch => {
            SecretError::Mismatch(found.certificate_key, found.private_key_key)
        }
    })?;
    Ok(certificate::leaf(chain).ok())
}

/// Judge a Secret as authorities.
fn authorities(secret: &Secret) -> Result<(), SecretError> {
    let found = credential::authorities(secret)?;
    pem::check_authorities(&found.authorities.0)
        .map_err(|error| SecretError::Value(found.authorities_key, error))?;
    if let Some(lists) = &found.revocations {
        pem::check_revocations(&lists.0)
            .map_err(|error| SecretError::Value(found.revocations_key, error))?;
    }
    Ok(())
}
