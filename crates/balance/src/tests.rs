//! Facts about single decisions; histories of many clients are in `scenarios`.

mod scenarios;
mod sim;
