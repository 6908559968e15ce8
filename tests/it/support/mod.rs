//! What several test modules share: the reference cases.

pub(crate) mod reference;
