//! Path normalisation (mesh `pathNormalization`).
/// How a request path is made canonical before routing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum PathNormalization {
    /// As sent.
    None,
    /// Dot segments, `\` to `/`, unreserved escapes decoded (the default).
    #[default]
    Base,
    /// `Base`, then runs of slashes made one.
    MergeSlashes,
    /// `%2F` and `%5C` decoded first, then `MergeSlashes`.
    DecodeAndMergeSlashes,
}
