//! The wrapped command: started through our own shim, so that it does not outlive us.

pub(crate) mod shim;
