//! Nothing but tests; see `tests/containment`.
