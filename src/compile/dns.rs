//! Addresses of names as the resolver found them: an input of the compiler like the manifests, so
//! that the same input gives the same snapshot.

use std::collections::BTreeMap;
use std::net::IpAddr;

/// The last good answer of each name that has one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DnsAnswers(BTreeMap<String, Vec<IpAddr>>);

impl DnsAnswers {
    /// The addresses of a name in the order of the answer; none when there is no answer.
    pub fn get(&self, name: &str) -> &[IpAddr] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }
}

impl FromIterator<(String, Vec<IpAddr>)> for DnsAnswers {
    fn from_iter<T: IntoIterator<Item = (String, Vec<IpAddr>)>>(answers: T) -> Self {
        DnsAnswers(answers.into_iter().collect())
    }
}
