//! What this machine knows: the disk of the data directory, the configuration file.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use domain::config::TEXT_BYTES_MAX;
use tokio::sync::oneshot;

use super::facts::{ConfigFile, DataDir, Local};
use crate::args::Doctor;

/// Looks, in a thread of its own: a network file system that hangs must not hold us up.
pub(crate) async fn look(args: &Doctor, data: &Path, within: Duration) -> Local {
    let (data, config) = (data.to_owned(), args.config.clone());
    let (told, heard) = oneshot::channel();
    let looking = std::thread::Builder::new().spawn(move || {
        let local = Local { data: data_dir(&data), config: config_file(&config) };
        let _nobody_waits_any_more = told.send(local);
    });
    match (looking, tokio::time::timeout(within, heard).await) {
        (Ok(_), Ok(Ok(local))) => local,
        (Ok(_) | Err(_), _) => Local::default(),
    }
}

fn data_dir(path: &Path) -> Option<DataDir> {
    fs::metadata(path).ok().filter(fs::Metadata::is_dir)?;
    let room = rustix::fs::statvfs(path).ok().map(|it| {
        let unit = it.f_frsize;
        (it.f_bavail.saturating_mul(unit), it.f_blocks.saturating_mul(unit))
    });
    Some(DataDir {
        path: path.to_owned(),
        room,
        sync_interval: sync_interval(&path.join("run/nats.conf")),
        is_writable: rustix::fs::access(path, rustix::fs::Access::WRITE_OK).is_ok(),
    })
}

/// Reads how often the broker of `selfheal up` syncs, from its configuration.
fn sync_interval(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let (_, rest) = text.split_once("sync_interval")?;
    let value = rest.trim_start_matches([':', '=', ' ', '"']);
    let end = value.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(value.len());
    value.get(..end).filter(|value| !value.is_empty()).map(str::to_owned)
}

fn config_file(path: &PathBuf) -> Option<ConfigFile> {
    let size = fs::metadata(path).ok()?.len();
    let content = if TEXT_BYTES_MAX < size {
        Err(format!("it has {size} bytes, and at most {TEXT_BYTES_MAX} are read"))
    } else {
        match fs::read_to_string(path) {
            Ok(text) => domain::config::parse(&text)
                .map(Box::new)
                .map_err(|mistakes| mistakes.first().map(ToString::to_string).unwrap_or_default()),
            Err(error) => Err(error.to_string()),
        }
    };
    Some(ConfigFile { path: path.clone(), content })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_disk_and_how_the_broker_syncs_are_seen() {
        let name = format!("selfheal-doctor-{}", uuid::Uuid::new_v4());
        let dir = std::env::temp_dir().join(name);
        fs::create_dir_all(dir.join("run")).unwrap();
        fs::write(dir.join("run/nats.conf"), "jetstream { sync_interval: \"10s\", x: 1 }").unwrap();
        let seen = data_dir(&dir).unwrap();
        assert_eq!(seen.sync_interval.as_deref(), Some("10s"));
        let (free, all) = seen.room.unwrap();
        assert!(0 < all && free <= all, "{free} of {all}");
        assert!(data_dir(&dir.join("run/nats.conf")).is_none(), "a file is none");
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_configuration_with_a_mistake_is_told_with_its_place() {
        let path = std::env::temp_dir().join(format!("selfheal-{}.yaml", uuid::Uuid::new_v4()));
        fs::write(&path, "targts: []\n").unwrap();
        let seen = config_file(&path).unwrap().content.unwrap_err();
        assert!(seen.contains(":1:"), "{seen}");
        fs::remove_file(&path).unwrap();
        assert!(config_file(&path).is_none());
    }
}
