//! Task sequences: the document people write, its checks, the plan for a model or a device, the engine that runs it and
//! the steps it knows. No operating-system calls: the world comes in through [`ports`].

pub mod derive;
pub mod document;
pub mod engine;
pub mod expression;
pub mod journal_line;
pub mod layout;
pub mod lint;
mod node;
pub mod ports;
pub mod problem;
pub mod run_plan;
pub mod schema;
pub mod scope;
pub mod secret;
pub mod select;
pub mod size;
pub mod steps;
mod tar;
mod tri;
pub mod view;
