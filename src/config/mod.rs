//! What the user wrote: files → typed resources, with names and nesting as in Istio's API, each of
//! which can tell the place of its fields. Only this folder names serde and the YAML parser.
//!
//! Nothing here judges what the resources mean: that is [`crate::validate`].

pub mod codes;
pub mod credential;
pub mod credential_files;
pub mod deserialize;
pub mod destination_rule;
pub mod diagnostic;
pub mod gateway;
pub mod kube;
pub mod load;
pub mod meta;
pub mod naming;
pub mod node;
pub mod objective;
pub mod scalar;
pub mod service_entry;
#[cfg(test)]
mod tests;
pub mod virtual_service;

pub use diagnostic::{Diagnostic, Place, Severity};
pub use load::{Loaded, LoadedDocument, LoadedFile, load};
pub use meta::ObjectMeta;
pub use node::Position;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use destination_rule::DestinationRule;
use gateway::Gateway;
use kube::{EndpointSlice, Endpoints, Secret, Service};
use node::Node;
use objective::ServiceLevelObjective;
use service_entry::{ServiceEntry, WorkloadEntry};
use virtual_service::VirtualService;

/// A kind that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "the names are the kinds'")]
pub enum Kind {
    Gateway,
    VirtualService,
    DestinationRule,
    ServiceEntry,
    WorkloadEntry,
    ServiceLevelObjective,
    Service,
    EndpointSlice,
    Endpoints,
    Secret,
}

impl Kind {
    fn of(api_version: &str, kind: &str) -> Option<Kind> {
        let istio = matches!(
            api_version,
            "networking.istio.io/v1"
                | "networking.istio.io/v1beta1"
                | "networking.istio.io/v1alpha3"
        );
        match (api_version, kind) {
            (_, "Gateway") if istio => Some(Kind::Gateway),
            (_, "VirtualService") if istio => Some(Kind::VirtualService),
            (_, "DestinationRule") if istio => Some(Kind::DestinationRule),
            (_, "ServiceEntry") if istio => Some(Kind::ServiceEntry),
            (_, "WorkloadEntry") if istio => Some(Kind::WorkloadEntry),
            ("ringress.io/v1alpha1", "ServiceLevelObjective") => Some(Kind::ServiceLevelObjective),
            ("v1", "Service") => Some(Kind::Service),
            ("v1", "Endpoints") => Some(Kind::Endpoints),
            ("v1", "Secret") => Some(Kind::Secret),
            ("discovery.k8s.io/v1", "EndpointSlice") => Some(Kind::EndpointSlice),
            _ => None,
        }
    }

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Gateway => "Gateway",
            Kind::VirtualService => "VirtualService",
            Kind::DestinationRule => "DestinationRule",
            Kind::ServiceEntry => "ServiceEntry",
            Kind::WorkloadEntry => "WorkloadEntry",
            Kind::ServiceLevelObjective => "ServiceLevelObjective",
            Kind::Service => "Service",
            Kind::EndpointSlice => "EndpointSlice",
            Kind::Endpoints => "Endpoints",
            Kind::Secret => "Secret",
        }
    }
}

/// Which object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResourceKey {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl fmt::Display for ResourceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind.as_str(), self.namespace, self.name)
    }
}

/// Where an object was read.
#[derive(Clone)]
pub struct Origin {
    file: Arc<PathBuf>,
    text: Arc<str>,
    root: Arc<Node>,
    /// Its lines may hold secrets.
    hidden: bool,
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.place_text())
    }
}

impl Origin {
    /// The place of a field (`spec.http[0].route[0]`), or of the nearest part of it that exists.
    pub fn locate(&self, field: &str) -> Place {
        Place {
            file: Arc::clone(&self.file),
            text: Arc::clone(&self.text),
            position: self.root.locate(field),
            hidden: self.hidden,
        }
    }

    /// `file:line:column` of the object.
    pub fn place_text(&self) -> String {
        self.locate("").to_string()
    }

    /// The file.
    pub fn file(&self) -> &Path {
        &self.file
    }
}

/// An object.
#[derive(Clone, Debug)]
pub struct Object<S> {
    /// Its metadata.
    pub meta: ObjectMeta,
    /// What it says.
    pub spec: S,
    /// Where it was read.
    pub origin: Origin,
}

/// Ties a spec to its kind.
pub trait Spec {
    /// The kind.
    const KIND: Kind;
}

macro_rules! resources {
    ($($kind:ident, $accessor:ident, $type:ty;)*) => {
        /// An object of any kind that is read.
        #[derive(Clone, Debug)]
        #[allow(missing_docs, reason = "the names are the kinds'")]
        #[allow(clippy::large_enum_variant, reason = "objects are moved a few times, never copied")]
        pub enum Resource {
            $($kind(Object<$type>),)*
        }

        impl Resource {
            /// Which object.
            pub fn key(&self) -> ResourceKey {
                match self { $(Resource::$kind(object) => object.key(),)* }
            }

            fn origin(&self) -> &Origin {
                match self { $(Resource::$kind(object) => &object.origin,)* }
            }

            fn order(&self) -> (Option<&str>, &str, &str) {
                match self { $(Resource::$kind(object) => {
                    let meta = &object.meta;
                    (meta.creation_timestamp.as_deref(), &meta.name, &meta.namespace)
                })* }
            }
        }

        $(impl Spec for $type {
            const KIND: Kind = Kind::$kind;
        })*

        impl ResourceSet {
            $(
                /// Objects of this kind, in Istio's order.
                pub fn $accessor(&self) -> impl Iterator<Item = &Object<$type>> {
                    self.of(Kind::$kind).iter().filter_map(|resource| match resource {
                        Resource::$kind(object) => Some(object),
                        _ => None,
                    })
                }
            )*
        }
    };
}

resources! {
    Gateway, gateways, Gateway;
    VirtualService, virtual_services, VirtualService;
    DestinationRule, destination_rules, DestinationRule;
    ServiceEntry, service_entries, ServiceEntry;
    WorkloadEntry, workload_entries, WorkloadEntry;
    ServiceLevelObjective, service_level_objectives, ServiceLevelObjective;
    Service, services, Service;
    EndpointSlice, endpoint_slices, EndpointSlice;
    Endpoints, endpoints, Endpoints;
    Secret, secrets, Secret;
}

impl<S: Spec> Object<S> {
    /// Which object.
    pub fn key(&self) -> ResourceKey {
        ResourceKey {
            kind: S::KIND,
            namespace: self.meta.namespace.clone(),
            name: self.meta.name.clone(),
        }
    }

    /// A finding about a field of it.
    pub fn diagnostic(
        &self,
        severity: Severity,
        code: &'static str,
        field: &str,
        message: &str,
        help: Option<&str>,
    ) -> Diagnostic {
        Diagnostic {
            severity,
            code,
            resource: Some(self.key()),
            field: field.to_owned(),
            place: Some(self.origin.locate(field)),
            message: message.to_owned(),
            help: help.map(str::to_owned),
        }
    }
}

impl Resource {
    /// The file it was read from.
    pub fn file(&self) -> &Path {
        self.origin().file()
    }

    /// `file:line:column`.
    pub fn place_text(&self) -> String {
        self.origin().place_text()
    }

    /// Line in its file, from 1.
    pub fn line(&self) -> usize {
        self.origin().locate("").position.line
    }
}

/// All objects, per kind in Istio's order: by creation time, then name, then namespace (behaviour
/// 1.2). Objects without a time come first.
#[derive(Clone, Debug, Default)]
pub struct ResourceSet {
    by_kind: std::collections::BTreeMap<Kind, Vec<Resource>>,
}

impl ResourceSet {
    /// Put objects in order.
    pub fn from_resources(resources: impl IntoIterator<Item = Resource>) -> ResourceSet {
        let mut set = ResourceSet::default();
        for resource in resources {
            set.by_kind.entry(resource.key().kind).or_default().push(resource);
        }
        for list in set.by_kind.values_mut() {
            list.sort_by(|a, b| a.order().cmp(&b.order()));
        }
        set
    }

    fn of(&self, kind: Kind) -> &[Resource] {
        self.by_kind.get(&kind).map_or(&[], Vec::as_slice)
    }
}
