//! Ready mappings, as data in the folder `integrations/`.

use std::{collections::BTreeMap, sync::LazyLock};

use crate::config::Mapping;

/// The ready mappings: a file, and a line here.
#[rustfmt::skip]
const PRESETS: [(&str, &str); 12] = [
    ("argocd", include_str!("../../../../integrations/argocd.yaml")),
    ("azure-monitor", include_str!("../../../../integrations/azure-monitor.yaml")),
    ("cloudwatch", include_str!("../../../../integrations/cloudwatch.yaml")),
    ("datadog", include_str!("../../../../integrations/datadog.yaml")),
    ("gatus", include_str!("../../../../integrations/gatus.yaml")),
    ("gcp-monitoring", include_str!("../../../../integrations/gcp-monitoring.yaml")),
    ("github", include_str!("../../../../integrations/github.yaml")),
    ("healthchecks", include_str!("../../../../integrations/healthchecks.yaml")),
    ("icinga", include_str!("../../../../integrations/icinga.yaml")),
    ("nagios", include_str!("../../../../integrations/nagios.yaml")),
    ("uptime-kuma", include_str!("../../../../integrations/uptime-kuma.yaml")),
    ("zabbix", include_str!("../../../../integrations/zabbix.yaml")),
];

/// Read once. A test reads all of them, so none is missing here.
static READ: LazyLock<BTreeMap<&'static str, Mapping>> = LazyLock::new(|| {
    let read = |(name, text): (&'static str, &str)| {
        serde_saphyr::from_str::<Mapping>(text).ok().map(|mapping| (name, mapping))
    };
    PRESETS.into_iter().filter_map(read).collect()
});

/// Returns the ready mapping of this name.
#[must_use]
pub fn preset(name: &str) -> Option<Mapping> {
    READ.get(name).cloned()
}

/// Returns all ready mappings with their names, sorted.
pub fn presets() -> impl Iterator<Item = (&'static str, &'static Mapping)> {
    READ.iter().map(|(name, mapping)| (*name, mapping))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mapping::Mapper;

    #[test]
    fn every_file_in_the_folder_is_listed_and_every_template_is_one() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../integrations");
        let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let files = files.filter(|it| it.extension().is_some_and(|it| it == "yaml"));
        let mut files: Vec<_> =
            files.map(|it| it.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
        files.sort();
        assert_eq!(PRESETS.map(|(name, _)| name.to_owned()).to_vec(), files);
        for (name, text) in PRESETS {
            let mapping: Mapping = serde_saphyr::from_str(text).unwrap();
            Mapper::new(name, &mapping).unwrap();
        }
        assert_eq!(presets().count(), PRESETS.len());
    }
}
