//! `disk.clean` against real files and links.

use std::{
    fs,
    os::unix::fs::symlink,
    path::Path,
    time::{Duration, SystemTime},
};

use crate::kit::{Place, act};
use domain::{action::Action, span::Span};
use fixer::Args;

fn old(path: &Path, n_bytes: usize) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, vec![b'x'; n_bytes]).unwrap();
    let week_ago = SystemTime::now() - Duration::from_secs(7 * 86_400);
    fs::File::options().write(true).open(path).unwrap().set_modified(week_ago).unwrap();
}

fn clean(directories: &[&Path], dry_run: bool) -> Action {
    Action::DiskClean {
        directories: directories.iter().map(|it| it.to_str().unwrap().to_owned()).collect(),
        patterns: vec!["*.log".to_owned(), "core.[0-9]*".to_owned()],
        older_than: Span::from_secs(86_400),
        dry_run,
    }
}

#[tokio::test]
async fn old_files_that_match_are_removed_and_counted() {
    let place = Place::new();
    let logs = place.file("logs");
    for (name, n_bytes) in [("a.log", 1000), ("sub/deep/b.log", 500), ("core.17", 24)] {
        old(&logs.join(name), n_bytes);
    }
    old(&logs.join("keep.txt"), 10);
    old(&logs.join(".hidden.log"), 10);
    fs::write(logs.join("young.log"), "now").unwrap();
    let report = act(&place.tools(), clean(&[&logs], false)).await.unwrap();
    assert_eq!(report.summary, "removed 3 files, 1524 bytes");
    assert!(report.output.contains("sub/deep/b.log"), "{}", report.output);
    for gone in ["a.log", "sub/deep/b.log", "core.17"] {
        assert!(!logs.join(gone).exists(), "{gone}");
    }
    for kept in ["keep.txt", ".hidden.log", "young.log", "sub/deep"] {
        assert!(logs.join(kept).exists(), "{kept}");
    }
}

#[tokio::test]
async fn a_dry_run_lists_and_removes_nothing() {
    let place = Place::new();
    let logs = place.file("logs");
    old(&logs.join("a.log"), 1000);
    let report = act(&place.tools(), clean(&[&logs], true)).await.unwrap();
    assert_eq!(report.summary, "would remove 1 files, 1000 bytes");
    assert!(report.output.contains("a.log"));
    assert!(logs.join("a.log").exists());
}

#[tokio::test]
async fn links_inside_lead_nowhere() {
    let place = Place::new();
    let (logs, precious) = (place.file("logs"), place.file("precious"));
    old(&precious.join("data.log"), 10);
    old(&logs.join("a.log"), 10);
    symlink(&precious, logs.join("dir")).unwrap();
    symlink(precious.join("data.log"), logs.join("link.log")).unwrap();
    let report = act(&place.tools(), clean(&[&logs], false)).await.unwrap();
    assert_eq!(report.summary, "removed 1 files, 10 bytes");
    assert!(precious.join("data.log").exists());
    assert!(logs.join("link.log").symlink_metadata().is_ok(), "a link is no regular file");
}

#[tokio::test]
async fn a_directory_that_is_a_link_or_lies_behind_one_is_refused() {
    let place = Place::new();
    let real = place.file("real");
    old(&real.join("sub/a.log"), 10);
    let link = place.file("link");
    symlink(&real, &link).unwrap();
    for named in [link.clone(), link.join("sub")] {
        let told = act(&place.tools(), clean(&[&named], false)).await.unwrap_err();
        assert!(told.contains("symbolic link"), "{told}");
    }
    assert!(real.join("sub/a.log").exists());
}

#[tokio::test]
async fn system_directories_and_what_is_not_on_the_list_are_refused() {
    let place = Place::new();
    let logs = place.file("logs");
    old(&logs.join("a.log"), 10);
    for path in
        ["/", "/etc", "/usr", "/bin", "/lib", "/proc", "/sys", "/dev", "/root", "/home", "/var/lib"]
    {
        let told = act(&place.tools(), clean(&[Path::new(path)], true)).await.unwrap_err();
        assert!(told.contains("not allowed"), "{path}: {told}");
    }
    let list = place.file("allow.yaml");
    fs::write(&list, format!("actions: [disk.clean]\ndirectories: [{}]", place.text("other")))
        .unwrap();
    let tools =
        place.tools_with(&Args { allow_file: Some(place.text("allow.yaml")), ..Args::default() });
    let told = act(&tools, clean(&[&logs], false)).await.unwrap_err();
    assert!(told.contains("directories"), "{told}");
    assert!(logs.join("a.log").exists());
}

#[tokio::test]
async fn a_directory_that_is_not_there_is_told() {
    let place = Place::new();
    let told = act(&place.tools(), clean(&[&place.file("nothing")], false)).await.unwrap_err();
    assert!(told.contains("cannot open"), "{told}");
}
