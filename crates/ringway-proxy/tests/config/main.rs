//! Configuration files as users write them: good ones, wrong ones with their exact messages, and arbitrary text.

mod arbitrary;
mod certificates;
mod ejection;
mod examples;
mod faults;
mod formats;
mod health;
mod include;
mod meaning;
mod schema;
mod validator;
mod yaml;
