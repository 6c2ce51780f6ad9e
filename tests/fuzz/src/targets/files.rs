//! What the kernel, and the fixer of the same host, leave in files.

use super::{Form, Target, Verdict};

pub(super) const PROC: Target = Target {
    name: "file_proc",
    about: "files of /proc and of the state directory, as monitor and fixer read them",
    form: Form::Text,
    seeds: || {
        [
            "42 (a) S 9 (b) S 1 42 42 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 777 1000 55 18446744073709551615 1 1 0 0 0 0 0 0 0 0 0 0 17 0 0 0 0 0 0 0 0 0 0 0 0 0 9",
            "0::/user.slice/x.scope\n5:memory:/docker/abc\n",
            "some avg10=0.12 avg60=0.00 avg300=0.00 total=7\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n",
            "MemTotal:       2048 kB\nMemAvailable:   1024 kB\n",
            "cpu  1 2 3 4 5 6 7 8 9 10\ncpu0 1 2 3 4\nbtime 1700000000\n",
            "{\"pid\":7,\"exit_code\":null,\"signal\":9,\"at\":\"2026-01-01T00:00:00Z\"}",
            "{\"pid\":1,\"at\":\"2026-01-01T00:00:00Z\",\"incident\":\"x\",\"attempt\":1}\n",
            "4242\n",
            "0.5 0.4 0.3 1/100 4242\n",
        ]
        .map(|it| it.as_bytes().to_vec())
        .into()
    },
    run: |input| {
        let text = String::from_utf8_lossy(input);
        let path = super::config::in_file(input);
        let is_understood =
            fixer::edges::is_stat(&text) || 0 < monitor::processes::edges::understood(&text, &path);
        if !is_understood { Verdict::Refused("nothing of it".to_owned()) } else { Verdict::Taken }
    },
};
