//! Compares the proxy with the floor and the peers.

fn main() {}
