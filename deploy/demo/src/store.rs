//! The data of the store: a map, and the append-only file from which it comes back.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use crate::resp::{self, Reply, Word};

/// The largest file that is read at the start. It holds every write, so a demo of days fits.
const FILE_BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// A map of bytes to bytes that survives a crash of its process.
///
/// A write is answered after it was handed to the operating system: it survives `kill -9`, but the
/// last ones may not survive a power cut (Redis with `appendfsync no` gives the same).
#[derive(Debug)]
pub struct Store {
    entries: HashMap<Word, Word>,
    file: Option<File>,
    n_commands: u64,
}

impl Store {
    /// Makes an empty store that keeps nothing on disk.
    pub fn in_memory() -> Self {
        Self { entries: HashMap::new(), file: None, n_commands: 0 }
    }

    /// Opens the store kept in `path`, and makes the file if there is none.
    ///
    /// A torn last record (the process died while it wrote) is cut off: it was never answered.
    ///
    /// # Errors
    ///
    /// When the file cannot be read or written, or holds something else than a store's records.
    pub async fn open(path: &Path) -> io::Result<Self> {
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir)?;
        }
        let mut file =
            OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path)?;
        let mut bytes = Vec::new();
        Read::by_ref(&mut file).take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
        let mut store = Self::in_memory();
        let whole = store.replay(&bytes).await?;
        file.set_len(whole)?;
        file.seek(SeekFrom::Start(whole))?;
        store.file = Some(file);
        Ok(store)
    }

    /// Applies the records in `bytes` and returns where the last whole one ends.
    async fn replay(&mut self, bytes: &[u8]) -> io::Result<u64> {
        let mut rest = bytes;
        loop {
            let at = bytes.len() - rest.len();
            match resp::read_command(&mut rest).await {
                Ok(Some(words)) => self.apply(&words),
                Ok(None) | Err(resp::Error::Torn) => return Ok(at as u64),
                Err(error @ (resp::Error::Read(_) | resp::Error::Protocol(_))) => {
                    let what = format!("the data file is damaged at byte {at}: {error}");
                    return Err(io::Error::new(io::ErrorKind::InvalidData, what));
                }
            }
        }
    }

    fn apply(&mut self, words: &[Word]) {
        match words {
            [verb, key, value] if verb == b"SET" => {
                self.entries.insert(key.clone(), value.clone());
            }
            [verb, key] if verb == b"DEL" => {
                self.entries.remove(key);
            }
            _ => {}
        }
    }

    /// Executes one command and returns its reply.
    pub fn execute(&mut self, words: &[Word]) -> Reply {
        self.n_commands += 1;
        let Some((verb, args)) = words.split_first() else {
            return Reply::Error("empty command".to_owned());
        };
        let verb = String::from_utf8_lossy(verb).to_ascii_uppercase();
        match (verb.as_str(), args) {
            ("PING", []) => Reply::Status("PONG"),
            ("PING", [text]) => Reply::Bulk(Some(text.clone())),
            ("GET", [key]) => Reply::Bulk(self.entries.get(key).cloned()),
            ("SET", [key, value]) => self.set(key, value.clone(), Reply::Status("OK")),
            ("INCR", [key]) => self.increment(key),
            ("DEL", keys @ [_, ..]) => self.delete(keys),
            ("INFO", _) => Reply::Bulk(Some(self.info().into_bytes())),
            ("PING" | "GET" | "SET" | "INCR" | "DEL", _) => {
                Reply::Error(format!("wrong number of arguments for '{verb}'"))
            }
            _ => Reply::Error(format!("unknown command '{verb}'")),
        }
    }

    fn set(&mut self, key: &[u8], value: Word, reply: Reply) -> Reply {
        if let Err(error) = self.record(&[b"SET", key, &value]) {
            return Reply::Error(format!("cannot write the data file: {error}"));
        }
        self.entries.insert(key.to_vec(), value);
        reply
    }

    fn increment(&mut self, key: &[u8]) -> Reply {
        let now = match self.entries.get(key) {
            Some(value) => str::from_utf8(value).ok().and_then(|text| text.parse::<i64>().ok()),
            None => Some(0),
        };
        match now.and_then(|number| number.checked_add(1)) {
            Some(next) => self.set(key, next.to_string().into_bytes(), Reply::Integer(next)),
            None => Reply::Error("value is not an integer or out of range".to_owned()),
        }
    }

    fn delete(&mut self, keys: &[Word]) -> Reply {
        let mut n_deleted = 0;
        for key in keys {
            if !self.entries.contains_key(key) {
                continue;
            }
            if let Err(error) = self.record(&[b"DEL", key]) {
                return Reply::Error(format!("cannot write the data file: {error}"));
            }
            self.entries.remove(key);
            n_deleted += 1;
        }
        Reply::Integer(n_deleted)
    }

    fn info(&self) -> String {
        format!(
            "demo_store_version:{}\r\nprocess_id:{}\r\nkeys:{}\r\ncommands:{}\r\n",
            env!("CARGO_PKG_VERSION"),
            std::process::id(),
            self.entries.len(),
            self.n_commands,
        )
    }

    fn record(&mut self, words: &[&[u8]]) -> io::Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        let mut bytes = Vec::new();
        resp::encode_command(words, &mut bytes);
        let start = file.stream_position()?;
        file.write_all(&bytes).inspect_err(|_| {
            // A part of the record may be there (disk full): what follows it would be unreadable.
            if file.set_len(start).is_ok() {
                drop(file.seek(SeekFrom::Start(start)));
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<Word> {
        line.split(' ').map(|word| word.as_bytes().to_vec()).collect()
    }

    fn temporary(name: &str) -> std::path::PathBuf {
        let name = format!("demo-store-{}-{name}.aof", std::process::id());
        let path = std::env::temp_dir().join(name);
        drop(std::fs::remove_file(&path));
        path
    }

    #[tokio::test]
    async fn a_store_that_is_opened_again_has_what_it_answered() {
        let path = temporary("again");
        let mut store = Store::open(&path).await.unwrap();
        assert_eq!(store.execute(&words("SET tea 4")), Reply::Status("OK"));
        assert_eq!(store.execute(&words("incr tea")), Reply::Integer(5));
        assert_eq!(store.execute(&words("SET cup 1")), Reply::Status("OK"));
        assert_eq!(store.execute(&words("DEL cup none")), Reply::Integer(1));

        let mut again = Store::open(&path).await.unwrap();
        assert_eq!(again.execute(&words("GET tea")), Reply::Bulk(Some(b"5".to_vec())));
        assert_eq!(again.execute(&words("GET cup")), Reply::Bulk(None));
        std::fs::remove_file(path).unwrap();
    }

    #[tokio::test]
    async fn a_torn_last_record_is_cut_off_and_writing_goes_on() {
        let path = temporary("torn");
        let mut store = Store::open(&path).await.unwrap();
        store.execute(&words("SET tea 4"));
        store.execute(&words("SET cup 1"));
        let length = std::fs::metadata(&path).unwrap().len();
        OpenOptions::new().write(true).open(&path).unwrap().set_len(length - 3).unwrap();

        let mut again = Store::open(&path).await.unwrap();
        assert_eq!(again.execute(&words("GET cup")), Reply::Bulk(None));
        again.execute(&words("SET cup 2"));
        let mut third = Store::open(&path).await.unwrap();
        assert_eq!(third.execute(&words("GET cup")), Reply::Bulk(Some(b"2".to_vec())));
        assert_eq!(third.execute(&words("GET tea")), Reply::Bulk(Some(b"4".to_vec())));
        std::fs::remove_file(path).unwrap();
    }

    #[tokio::test]
    async fn a_file_of_something_else_is_refused_and_left_alone() {
        let path = temporary("other");
        std::fs::write(&path, "*1\r\nnot a store\r\n").unwrap();
        let error = Store::open(&path).await.unwrap_err();
        assert!(error.to_string().contains("damaged at byte 0"), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), b"*1\r\nnot a store\r\n");
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn mistakes_are_answered_with_what_is_wrong() {
        let mut store = Store::in_memory();
        store.execute(&words("SET name tea"));
        for (line, wanted) in [
            ("GET", "wrong number of arguments for 'GET'"),
            ("FLUSHALL", "unknown command 'FLUSHALL'"),
            ("INCR name", "value is not an integer or out of range"),
        ] {
            assert_eq!(store.execute(&words(line)), Reply::Error(wanted.to_owned()));
        }
    }
}
