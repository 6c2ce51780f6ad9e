//! What others send, each in its own form: one file a sender.
//!
//! To add a sender, write one file, name it below, and list its routes in
//! [`crate::routes`]. What only needs a mapping needs no code: it is a file in the folder
//! `integrations/` of the repository.
//!
//! All of them answer when the broker has what came, and none waits for decisions. A busy broker
//! is 503, never 429, and what is odd is taken: most senders drop what is refused.

pub(crate) mod alertmanager;
pub(crate) mod alerts_api;
pub(crate) mod alerts_list;
pub(crate) mod generic;
pub(crate) mod grafana;
pub(crate) mod pagerduty;

#[cfg(test)]
mod tests {
    #[test]
    fn every_sender_in_the_folder_is_in_the_list() {
        let list = include_str!("routes/integrations.rs");
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/integrations");
        let files = std::fs::read_dir(folder).unwrap().map(|it| it.unwrap().path());
        let names: Vec<_> =
            files.map(|it| it.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
        assert!(5 <= names.len(), "is the test blind?");
        for name in names {
            assert!(list.contains(&format!("({name}::")), "{name} has no route");
        }
    }
}
