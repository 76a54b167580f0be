//! `host[:port]`: splitting and comparing.
