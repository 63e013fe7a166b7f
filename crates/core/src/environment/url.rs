//! Database URLs as applications write them.

use secrecy::SecretString;

use super::tables::SslMode;

/// The parts of a database URL. The password never enters the environment's tables.
#[derive(Clone, Debug, Default)]
pub struct DatabaseUrl {
    /// Host, address or socket directory.
    pub host: Option<String>,
    /// Port.
    pub port: Option<u16>,
    /// Database name.
    pub name: Option<String>,
    /// Role.
    pub user: Option<String>,
    /// Password.
    pub password: Option<SecretString>,
    /// `sslmode`.
    pub ssl_mode: Option<SslMode>,
}

/// Why a text is not a database URL. Never quotes the text: it may hold a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a database URL ({0}): write postgresql://USER@HOST:PORT/NAME, or postgresql://USER@/NAME?host=/cloudsql/PROJECT:REGION:INSTANCE"
)]
pub struct DatabaseUrlError(&'static str);

impl std::str::FromStr for DatabaseUrl {
    type Err = DatabaseUrlError;

    /// Reads `postgres://`, `postgresql://` and `postgresql+DRIVER://` URLs; the authority may be
    /// empty (`postgresql+asyncpg://u:p@/db?host=/cloudsql/P:R:I`), which most URL parsers refuse.
    fn from_str(text: &str) -> Result<Self, DatabaseUrlError> {
        let (scheme, rest) = text.split_once("://").ok_or(DatabaseUrlError("no `://`"))?;
        if !matches!(scheme.split('+').next(), Some("postgres" | "postgresql")) {
            return Err(DatabaseUrlError("the scheme is not postgresql"));
        }
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, address) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (user, password) = match login.split_once(':') {
            Some((user, password)) => (user, Some(password)),
            None => (login, None),
        };
        let (host, port) = if let Some(v6) = address.strip_prefix('[') {
            let (host, rest) = v6.split_once(']').ok_or(DatabaseUrlError("an open `[`"))?;
            (host, rest.strip_prefix(':'))
        } else {
            match address.rsplit_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (address, None),
            }
        };
        let mut url = Self {
            host: text_of(host)?,
            port: port.filter(|port| !port.is_empty()).map(parse_port).transpose()?,
            name: text_of(path)?,
            user: text_of(user)?,
            password: password.map(decode).transpose()?.map(SecretString::from),
            ssl_mode: None,
        };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = decode(value)?;
            match key {
                "host" => url.host = Some(value),
                "port" => url.port = Some(parse_port(&value)?),
                "user" => url.user = Some(value),
                "password" => url.password = Some(value.into()),
                "dbname" => url.name = Some(value),
                "sslmode" | "ssl" => url.ssl_mode = Some(parse_ssl_mode(&value)?),
                _ => {}
            }
        }
        Ok(url)
    }
}

fn text_of(text: &str) -> Result<Option<String>, DatabaseUrlError> {
    if text.is_empty() { Ok(None) } else { decode(text).map(Some) }
}

fn parse_port(text: &str) -> Result<u16, DatabaseUrlError> {
    text.parse().map_err(|_| DatabaseUrlError("the port is not a number below 65536"))
}

fn parse_ssl_mode(text: &str) -> Result<SslMode, DatabaseUrlError> {
    let value = toml::Value::String(text.to_owned());
    value.try_into().map_err(|_| DatabaseUrlError("sslmode is none of libpq's"))
}

fn decode(text: &str) -> Result<String, DatabaseUrlError> {
    let bad = DatabaseUrlError("a `%` without two hexadecimal digits");
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = rest.get(..2).ok_or(bad.clone())?;
        let digits = std::str::from_utf8(digits).map_err(|_| bad.clone())?;
        bytes.push(u8::from_str_radix(digits, 16).map_err(|_| bad.clone())?);
        rest = &rest[2..];
    }
    String::from_utf8(bytes).map_err(|_| DatabaseUrlError("not UTF-8"))
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn the_forms_in_circulation_are_understood() {
        let socket = Some("/cloudsql/p:r:i".to_owned());
        for text in [
            "postgresql+asyncpg://u:p%28@/db?host=/cloudsql/p:r:i",
            "postgresql://u:p%28@localhost/db?host=/cloudsql/p:r:i",
            "postgres://u:p%28@%2Fcloudsql%2Fp%3Ar%3Ai:5432/db",
            "postgres:///db?host=/cloudsql/p:r:i&user=u&password=p%28",
        ] {
            let url: DatabaseUrl = text.parse().expect(text);
            assert_eq!(url.host, socket, "{text}");
            assert_eq!(url.name.as_deref(), Some("db"), "{text}");
            assert_eq!(url.user.as_deref(), Some("u"), "{text}");
            assert_eq!(url.password.expect("has one").expose_secret(), "p(", "{text}");
        }
        let url: DatabaseUrl =
            "postgresql://[::1]:6432/db?sslmode=verify-full".parse().expect("valid");
        assert_eq!((url.host.as_deref(), url.port), (Some("::1"), Some(6432)));
        assert_eq!(url.ssl_mode, Some(SslMode::VerifyFull));
    }

    #[test]
    fn errors_do_not_quote_the_password() {
        for text in ["mysql://u:hunter2@h/db", "postgresql://u:hunter2@h:x/db", "hunter2"] {
            let error = text.parse::<DatabaseUrl>().expect_err(text).to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
