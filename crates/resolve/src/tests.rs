//! The cases in `cases/`, and facts that hold for all of them.

mod case;
mod facts;
