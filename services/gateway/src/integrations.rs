//! What others send, each in its own form: one file a sender.
//!
//! To add a sender, write one file and add its two lines below. What only needs a mapping needs
//! no code: it is a file in the folder `integrations/` of the repository.
//!
//! All of them answer when the broker has what came, and none waits for decisions. A busy broker
//! is 503, never 429, and what is odd is taken: most senders drop what is refused.

mod alertmanager;
mod alerts_api;
mod generic;
mod grafana;
mod pagerduty;

use axum::Router;

use crate::app::App;

#[rustfmt::skip]
static LIST: [Sender; 5] = [
    alertmanager::SENDER,
    alerts_api::SENDER,
    generic::SENDER,
    grafana::SENDER,
    pagerduty::SENDER,
];

/// One kind of sender.
struct Sender {
    /// As the file.
    #[cfg(test)]
    name: &'static str,
    /// Adds its routes.
    routes: fn(Router<App>) -> Router<App>,
}

/// Returns the routes of all senders.
pub(crate) fn routes() -> Router<App> {
    LIST.iter().fold(Router::new(), |routes, sender| (sender.routes)(routes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sender_in_the_folder_is_in_the_list() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/integrations");
        let mut files: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
            .collect();
        files.sort();
        assert_eq!(LIST.each_ref().map(|it| it.name.to_owned()).to_vec(), files);
    }
}
