//! TLS for those who call the gateway: its certificate, and theirs.
//!
//! The files are read again every [`LOOK_EVERY`]: whoever renews a certificate need not restart
//! anything. Connections that stand keep what they began with.

use std::{path::PathBuf, sync::Arc, time::Duration};

use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::WebPkiClientVerifier,
};
use service::{BoxError, Chain, ConfigError};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::settings::Args;

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Where the certificates and the key are.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    cert: PathBuf,
    key: PathBuf,
    client_ca: Option<PathBuf>,
}

/// What the files hold. Never shown: there is a private key among it.
#[derive(PartialEq, Eq)]
struct Texts {
    cert: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

/// How TLS is spoken now; another when the files have changed.
pub(crate) type Now = watch::Receiver<Arc<ServerConfig>>;

impl Files {
    /// Takes the flags; none when no TLS is wanted.
    ///
    /// # Errors
    ///
    /// When only a part is given.
    pub(crate) fn of(args: &Args) -> Result<Option<Self>, ConfigError> {
        let path =
            |text: &Option<String>| text.as_deref().filter(|it| !it.is_empty()).map(PathBuf::from);
        let (cert, key, client_ca) =
            (path(&args.tls_cert), path(&args.tls_key), path(&args.tls_client_ca));
        match (cert, key) {
            (Some(cert), Some(key)) => Ok(Some(Self { cert, key, client_ca })),
            (None, None) if client_ca.is_none() => Ok(None),
            (Some(_), None) | (None, Some(_) | None) => Err(ConfigError::new(
                "only a part of what TLS needs was given",
                "give both --tls-cert and --tls-key, with --tls-client-ca or without",
            )),
        }
    }

    fn read(&self) -> Result<Texts, ConfigError> {
        let read = |path: &PathBuf| {
            std::fs::read(path).map_err(|error| {
                let message = format!("cannot read `{}`", path.display());
                ConfigError::new(message, "name a file that this user may read").because(error)
            })
        };
        let client_ca = self.client_ca.as_ref().map(read).transpose()?;
        Ok(Texts { cert: read(&self.cert)?, key: read(&self.key)?, client_ca })
    }

    fn config(&self, texts: &Texts) -> Result<ServerConfig, ConfigError> {
        let unusable = |path: &PathBuf, error: BoxError| {
            let message = format!("cannot use `{}` for TLS", path.display());
            ConfigError::new(message, "it must be PEM, and certificate and key must fit each other")
                .because(std::io::Error::other(error))
        };
        let certificates = |text: &[u8], path: &PathBuf| {
            let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
            let all = all.map_err(|error| unusable(path, error.into()))?;
            if all.is_empty() {
                return Err(unusable(path, "there is no certificate in it".into()));
            }
            Ok(all)
        };
        let chain = certificates(&texts.cert, &self.cert)?;
        let key = PrivateKeyDer::from_pem_slice(&texts.key);
        let key = key.map_err(|error| unusable(&self.key, error.into()))?;
        let builder = ServerConfig::builder();
        let builder = match (&texts.client_ca, &self.client_ca) {
            (Some(text), Some(path)) => {
                let mut roots = RootCertStore::empty();
                for authority in certificates(text, path)? {
                    roots.add(authority).map_err(|error| unusable(path, error.into()))?;
                }
                let verifier = WebPkiClientVerifier::builder(roots.into()).build();
                let verifier = verifier.map_err(|error| unusable(path, error.into()))?;
                builder.with_client_cert_verifier(verifier)
            }
            (None, _) | (Some(_), None) => builder.with_no_client_auth(),
        };
        let config = builder.with_single_cert(chain, key);
        let mut config = config.map_err(|error| unusable(&self.cert, error.into()))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }
}

/// Reads the files, and follows them from then on until `stop`.
///
/// # Errors
///
/// When they cannot be used now. Later ones that cannot be used are told, and the former stay.
pub(crate) fn follow(
    files: Files,
    stop: CancellationToken,
) -> Result<(Now, impl Future<Output = Result<(), BoxError>> + Send + 'static), ConfigError> {
    let texts = files.read()?;
    let (tx, now) = watch::channel(Arc::new(files.config(&texts)?));
    Ok((now, keep(files, texts, tx, stop)))
}

async fn keep(
    files: Files,
    mut known: Texts,
    tx: watch::Sender<Arc<ServerConfig>>,
    stop: CancellationToken,
) -> Result<(), BoxError> {
    let mut is_told = false;
    while stop.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await.is_some() {
        let read = files.read().and_then(|texts| {
            if texts == known {
                return Ok(None);
            }
            files.config(&texts).map(|config| Some((texts, config)))
        });
        match read {
            Ok(Some((texts, config))) => {
                info!(cert = %files.cert.display(), "new certificates are shown from now on");
                tx.send_replace(Arc::new(config));
                (known, is_told) = (texts, false);
            }
            Ok(None) => is_told = false,
            // While they are written, certificate and key may not fit each other for a moment.
            Err(error) if !is_told => {
                is_told = true;
                warn!(error = %Chain(&error), hint = error.hint(), "the new certificates cannot be used, the former stay");
            }
            Err(_told_before) => {}
        }
    }
    Ok(())
}
