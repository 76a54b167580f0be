//! router
/// Routes of one port.
#[derive(Clone, Debug, Default)]
pub struct RouteTable;
