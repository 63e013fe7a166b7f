//! The exact texts of interpreters, frameworks and the platform about a start-up or a crash.

use shakedown_core::case::{GOES_ON, WORK_DONE};
use shakedown_core::signal::{Emitter, LogSignal, SignalTable};

/// An interpreter names a programming error.
pub(crate) const DEFECT: &str = "app.programming-error";
/// A setting is missing or not accepted.
pub(crate) const SETTING: &str = "app.bad-setting";
/// Something else does not answer.
pub(crate) const DEPENDENCY: &str = "app.dependency";
/// The kernel or the platform killed the process for its memory.
pub(crate) const MEMORY: &str = "app.memory";
/// An exception ended a start-up, of a type that names no cause.
pub(crate) const EXCEPTION: &str = "app.exception";
/// The framework gave the start-up up.
pub(crate) const LIFESPAN: &str = "app.lifespan";
/// The platform's word about an exit.
pub(crate) const EXIT: &str = "app.exit";
/// The application's error message about its database phase.
pub(crate) const PHASE_WORDS: &str = "app.database-phase-timeout";
/// gunicorn or the platform kills a process that does not answer; gunicorn then guesses at memory.
pub(crate) const WORKER_TIMEOUT: &str = "app.worker-timeout";
/// The platform could not start or reach an instance.
pub(crate) const INSTANCE: &str = "app.instance";
/// A process that was asked to stop says so at ERROR.
pub(crate) const STOPS: &str = "app.stops";
/// Where the application's server says it listens.
pub(crate) const LISTENS: &str = "app.listens";
/// Where the platform asked whether somebody listens, and nobody did.
pub(crate) const ASKED: &str = "app.port-asked";

const CODE: &str = "code_defect";
const CONFIGURATION: &str = "configuration_error";
const UNAVAILABLE: &str = "dependency_unavailable";

/// What works on after such a line took no harm from it.
const HARMLESS: &[(&str, &str)] = &[("after_start", "tolerated")];

/// The same below ERROR; an error is one although the service goes on.
const BELOW_ERROR: &[(&str, &str)] = &[("after_start", "below-error")];

/// The same, and a line beside it may say that the application goes on without.
const OPTIONAL: &[(&str, &str)] = &[("after_start", "below-error"), ("goes_on", "service")];

const fn code(id: &'static str, any: &'static [&'static str], weight: f64) -> LogSignal {
    LogSignal::new(id, DEFECT, any).speaks(CODE, weight).attributes(BELOW_ERROR)
}

const fn setting(id: &'static str, any: &'static [&'static str], weight: f64) -> LogSignal {
    LogSignal::new(id, SETTING, any).speaks(CONFIGURATION, weight).attributes(OPTIONAL_SETTING)
}

/// A setting about somebody else, of whom a line beside it may say that the application goes on without.
const fn peer(id: &'static str, any: &'static [&'static str], weight: f64) -> LogSignal {
    LogSignal::new(id, SETTING, any).speaks(CONFIGURATION, weight).attributes(OPTIONAL_PEER)
}

const fn dependency(id: &'static str, any: &'static [&'static str], weight: f64) -> LogSignal {
    LogSignal::new(id, DEPENDENCY, any).speaks(UNAVAILABLE, weight).attributes(OPTIONAL)
}

/// What works on after such a line took no harm from it, and a line beside it may say that the
/// application goes on without what the setting is for.
const OPTIONAL_SETTING: &[(&str, &str)] = &[("after_start", "tolerated"), ("goes_on", "setting")];

/// The same of whom the setting names.
const OPTIONAL_PEER: &[(&str, &str)] = &[("after_start", "tolerated"), ("goes_on", "service")];

/// Resolvers' words that nobody has a name.
const NOBODY: &[&str] = &[
    "Name or service not known",
    "nodename nor servname provided",
    "Name does not resolve",
    "No address associated with hostname",
];

/// A frame that reads settings: a file of the application (no library's) or a function named so, or
/// code that asks the environment.
const OF_SETTINGS: &str = concat!(
    r#"(?i)File "(?:/(?:[^l/"][^/"]*|l[^i/"][^/"]*|li[^b/"][^/"]*|lib[^/"]+))*"#,
    r#"/[\w.-]*(?:settings|config|secret|credential|environment)[\w.-]*\.py""#,
    r"|, in (?:\w*_)?(?:settings|config|configuration|secrets?|credentials?|environment|service_account)(?:_\w*)?\s*(?:\n|$)",
    r"|\bos\.environ\b|\bgetenv\(",
);

/// The log signals of this crate.
pub const TABLE: SignalTable = SignalTable { name: "smd", signals: SIGNALS };

#[rustfmt::skip]
const SIGNALS: &[LogSignal] = &[
    // --- Python --------------------------------------------------------------------------------
    code("smd.no-module", &["No module named '", "No module named \"", "ModuleNotFoundError: "], 0.9),
    code("smd.cannot-import", &["cannot import name '", "ImportError: "], 0.9).unless(&["No module named", ".so", "libpq"]),
    // The image lacks what a module was built against.
    code("smd.shared-object", &["cannot open shared object file: No such file or directory", "undefined symbol: ", "' not found (required by "], 0.85).with(&["Error"]),
    code("smd.syntax", &["SyntaxError: ", "IndentationError: ", "TabError: "], 0.9).unless(&["JSON", "is not valid JSON"]),
    code("smd.name", &["NameError: name '", "' is not defined"], 0.9).unless(&["nvironment variable"]),
    // passlib asks bcrypt for its `__about__`, which it no longer has, says so, and goes on.
    code("smd.attribute", &["' has no attribute '", "object has no attribute '"], 0.85).unless(&["'__about__'"]),
    code("smd.call", &["unexpected keyword argument '", "required positional argument", "required keyword-only argument", "positional arguments but ", "positional argument but "], 0.85).unless(&["'sslmode'"]),
    code("smd.type", &["object is not callable", "object is not subscriptable", "object is not iterable", "object can't be used in 'await' expression", "unsupported operand type(s)", "object does not support the asynchronous context manager protocol", "object does not support the context manager protocol", "object is not an iterator", "can't be used in 'await'", "is not JSON serializable", "values to unpack (expected", "index out of range", "indices must be integers"], 0.85),
    code("smd.unbound", &["UnboundLocalError", "cannot access local variable '", "referenced before assignment"], 0.9),
    code("smd.coroutine", &["' was never awaited", "cannot reuse already awaited coroutine", "object coroutine can't be used", "'coroutine' object "], 0.75),
    code("smd.orm", &["MissingGreenlet", "greenlet_spawn has not been called", "IllegalStateChangeError", "should be explicitly declared as text(", "DetachedInstanceError", "InvalidRequestError: ", "mappers failed to initialize", "is already defined for this MetaData instance", "ObjectNotExecutableError", "Not an executable object: '"], 0.8).unless(&["requires an async driver"]),
    code("smd.socket-state", &["Need to call \"accept\" first", "Unexpected ASGI message 'websocket.", "Cannot call \"send\" once a close message has been sent", "Cannot call \"receive\" once a disconnect message"], 0.7),
    code("smd.abstract", &["Can't instantiate abstract class"], 0.9),
    code("smd.loop", &["attached to a different loop", "This event loop is already running", "asyncio.run() cannot be called from a running event loop", "another operation is in progress", "no running event loop"], 0.75),
    // Servers that stop say so too: it takes failed requests or start-ups to make it one.
    code("smd.loop-closed", &["Event loop is closed"], 0.6),
    code("smd.recursion", &["maximum recursion depth exceeded", "circular import"], 0.85),
    code("smd.schema", &["UndefinedTableError", "UndefinedColumnError", "(psycopg2.errors.UndefinedTable)", "(psycopg2.errors.UndefinedColumn)", "ERROR:  relation \"", "ERROR: relation \"", "ERROR:  column \"", "PostgresSyntaxError", "syntax error at or near \"", "DatatypeMismatchError", "UndefinedFunctionError", "AmbiguousColumnError", "but expression is of type", "operator does not exist: "], 0.75),
    // The server's own words, where somebody left out their type.
    code("smd.schema-words", &[" does not exist"], 0.75).capture(r#"(?:^|: {1,2}|\) )(?P<missing>relation "[^"\n]+"|column \S+|type "[^"\n]+"|function [^\s(]+\([^)\n]*\)) does not exist"#),
    code("smd.migration", &["Can't locate revision identified by", "Multiple head revisions are present", "(psycopg2.errors.DuplicateTable)", "(psycopg2.errors.DuplicateColumn)", "DuplicateTableError", "DuplicateColumnError"], 0.8),
    code("smd.promise", &["ResponseValidationError", "FastAPIError: ", "PydanticSchemaGenerationError", "PydanticImportError", "PydanticUserError", "PydanticUndefinedAnnotation"], 0.8),
    code("smd.assertion", &["AssertionError"], 0.62),
    // An error's words without its type: a `KeyError` has the key and nothing else.
    code("smd.key-words", &["ailed: '"], 0.62).capture(r"[Ff]ailed: '(?P<key>[a-z_][A-Za-z0-9_]*)'\s*(?:$|\n|\(after |\[)"),
    code("smd.key", &["KeyError: '"], 0.65).capture(r"KeyError: '(?P<key>[a-z_][A-Za-z0-9_]*)'"),
    code("smd.error-class", &["TypeError: ", "AttributeError: ", "IndexError: ", "ZeroDivisionError: ", "NotImplementedError"], 0.7).unless(&["fetch failed", "'__about__'"]),
    code("smd.asgi", &["Error loading ASGI app.", "Failed to find attribute '", "App failed to load."], 0.8),
    // --- Node, Go, Java, Rust --------------------------------------------------------------------
    code("smd.node-module", &["Cannot find module '", "ERR_MODULE_NOT_FOUND"], 0.9),
    code("smd.node-build", &["Could not find a production build in the"], 0.85),
    // Next.js asked for an action of a page older than the deploy says so, in these words, and goes on.
    code("smd.node-type", &["Cannot read properties of undefined", "Cannot read properties of null", "ReferenceError: ", "TypeError: undefined is not", "is not a function"], 0.8).unless(&["Failed to find Server Action", "(reading 'workers')"]),
    code("smd.go-panic", &["panic: runtime error:", "invalid memory address or nil pointer dereference"], 0.85),
    code("smd.java", &["java.lang.NullPointerException", "java.lang.ClassNotFoundException", "java.lang.NoSuchMethodError", "java.lang.NoClassDefFoundError", "UnsatisfiedDependencyException"], 0.8),
    code("smd.rust-panic", &["' panicked at "], 0.75).with(&["thread '"]).unless(&["ConnectionRefused", "PoolTimedOut", "TimedOut", "NotPresent", "Database(", "Configuration("]),
    setting("smd.rust-env", &["Err` value: NotPresent", "Err` value: EnvVar(NotPresent", "environment variable not found"], 0.75),
    code("smd.go-goroutine", &["goroutine "], 0.65).with(&["panic: ", "[running]:"]).unless(&["dial tcp", "refused", "timeout", "not set", "required", "missing", "FATAL:", "password", "config", "environment", "no such host"]),
    // --- settings ------------------------------------------------------------------------------
    setting("smd.pydantic", &["validation error for ", "validation errors for "], 0.8).capture(r"validation errors? for (?P<model>\w*(?:Settings|Config|Environment|Secrets|Credentials)\w*)"),
    setting("smd.env-key", &["KeyError: '"], 0.85).capture(r"KeyError: '(?P<setting>[A-Z][A-Z0-9]*_[A-Z0-9_]+)'"),
    setting("smd.env-key-words", &["ailed: '"], 0.8).capture(r"[Ff]ailed: '(?P<setting>[A-Z][A-Z0-9]*_[A-Z0-9_]+)'\s*(?:$|\n|\(after |\[)"),
    setting("smd.env-missing", &["environment variable", "Environment variable", "env var "], 0.85).capture(r"(?i)(?:(?:missing|required|undefined|unset)[^\n]{0,60}(?:environment variable|env var)s?|(?:environment variable|env var)s?[^\n]{0,80}(?:is |are |was |been )?(?:not set|missing|required|not configured|not defined|undefined|must be set|empty))"),
    setting("smd.must-be-set", &[" must be ", " must not be empty", " is not configured", " not configured", " is required but", " is required in ", " is missing from the environment", " not set in environment", "missing required", "Missing required", " not found in environment", " environment variable missing", " is missing or ", " is not set"], 0.75).capture(r"(?P<setting>\b[A-Z][A-Z0-9]*_[A-Z0-9_]+\b)[^\n]{0,60}(?:must be|must not be empty|not configured|is required|missing|not set|not found in environment)|(?i:missing required)[^\n]{0,60}(?P<other>\b[A-Z][A-Z0-9]*_[A-Z0-9_]+\b)|(?i:jwt secret|jwt=redacted|secret key|service secret|api key|oauth client|oauth)[^\n]{0,40}(?:must be set|not configured|not set|missing|required)"),
    setting("smd.improperly", &["ImproperlyConfigured", "ConfigurationError: ", "Configuration validation failed", "onfiguration validation failed", "onfiguration validation FAILED", "CONFIGURATION ERROR", "onfiguration error: ", "Missing required configuration", "onfiguration requirements validation failed", "Invalid configuration: ", "InvalidConfigurationError", "not found. Declare it as envvar", "is missing, and has no default", "UndefinedValueError: "], 0.75),
    // What a parser of settings does not take.
    // Whoever reads the settings does not get what it expects: the frames say that it is settings.
    setting("smd.unparsed-setting", &["JSONDecodeError: ", "binascii.Error: ", "UnicodeDecodeError: "], 0.75).capture(OF_SETTINGS),
    setting("smd.unparsed", &["yaml.scanner.ScannerError", "yaml.parser.ParserError", "TOMLDecodeError: ", "configparser.ParsingError"], 0.65),
    // A certificate that is not trusted is a setting, of one side or the other. One that has expired is
    // the other side's, unless that is the database, which has it from its administrator.
    peer("smd.certificate", &["CERTIFICATE_VERIFY_FAILED", "certificate verify failed", "x509: certificate ", "SSL: WRONG_VERSION_NUMBER"], 0.75).unless(&["certificate has expired"]),
    setting("smd.database-certificate", &["certificate has expired"], 0.75).capture(r"(?i)(?P<about>asyncpg|psycopg|postgres)"),
    setting("smd.address-in-use", &["ddress already in use", "EADDRINUSE", "error while attempting to bind on address", "] Connection in use: ('", "listen EACCES: permission denied"], 0.75),
    peer("smd.google-credentials", &["DefaultCredentialsError", "google.api_core.exceptions.PermissionDenied", "google.api_core.exceptions.Forbidden", "IAM_PERMISSION_DENIED", "The caller does not have permission", "does not have storage.", "Your default credentials were not found"], 0.75),
    peer("smd.store-credentials", &["NOAUTH Authentication required", "invalid username-password pair", "client option must be set either by", "WRONGPASS invalid username-password", "Incorrect API key provided", "invalid_api_key", "API key not valid", "invalid x-api-key", "password is incorrect, or there is no user with such name"], 0.75),
    // A name that nobody has is a wrong name; one that cannot be asked for now is another matter.
    peer("smd.no-such-host", &["Name or service not known", "getaddrinfo ENOTFOUND", "no such host", "ERR_NAME_NOT_RESOLVED", "nodename nor servname provided", "Name does not resolve", "No address associated with hostname", "ENOTFOUND "], 0.75).unless(&["asyncpg", "psycopg", "ostgres", "sqlalchemy", "database", "Database", ":5432", "/cloudsql/", "edis"]),
    peer("smd.no-scheme", &["missing an 'http://' or 'https://' protocol", "MissingSchema: Invalid URL", "URL must specify one of the following schemes", "redis: invalid URL scheme: ", "Port could not be cast to integer value as '"], 0.75).unless(&["sqlalchemy", "asyncpg", "psycopg"]),
    setting("smd.secret-length", &["must be at least 32 ", "Fernet key must be", "must be at least 32 characters"], 0.8),
    setting("smd.secret-manager", &["not found or has no versions", "Permission 'secretmanager.versions.access' denied", "Permission denied on secret", "Secret Version [", "is in DISABLED state", "is in DESTROYED state"], 0.85).from(Emitter::Any).any_level(),
    setting("smd.secret-missing", &["/secrets/"], 0.8).with(&["not found"]).from(Emitter::Any).any_level(),
    setting("smd.port", &["Failed to start and then listen on the port defined", "failed to start and listen on the port defined"], 0.4).from(Emitter::Any).any_level(),
    setting("smd.exec", &["Application failed to start: ", "error finding executable", "executable file not found in ", "exec format error"], 0.75).with(&["xec"]).from(Emitter::Any).any_level(),
    setting("smd.no-file", &["[Errno 2] No such file or directory: '", "[Errno 13] Permission denied: '"], 0.7).capture(r"(?:directory|denied): '(?P<file>[^']*(?:secret|credential|config|/etc/|\.pem|\.key|\.crt|\.json|\.ya?ml|\.toml|\.ini|\.env)[^']*)'"),
    // What the platform cannot deploy, unless it is for the container, for room, or for itself.
    setting("smd.not-ready", &["condition status changed to False"], 0.75).with(&["with message:"]).unless(&["container failed", "failed to start", "uota", "nternal", "no such host"]).from(Emitter::Platform).any_level(),
    setting("smd.no-command", &["sh: 1: ", ": command not found"], 0.75).capture(r"sh: (?:line )?\d+: (?P<command>\S+): (?:command )?not found"),
    setting("smd.no-script", &["can't open file '"], 0.75).with(&["[Errno 2]"]),
    peer("smd.api-disabled", &["has not been used in project "], 0.85).with(&["it is disabled"]).from(Emitter::Any).any_level(),
    setting("smd.image", &["Image '", "image not found"], 0.8).with(&["not found"]).from(Emitter::Platform).any_level(),
    setting("smd.image-denied", &["must have permission to read the image"], 0.8).from(Emitter::Platform).any_level(),
    // --- dependencies ----------------------------------------------------------------------------
    dependency("smd.redis", &["redis.exceptions.ConnectionError", "redis.exceptions.TimeoutError", "connecting to redis", "Error connecting to Redis", "Error 111 connecting to ", "Redis connection failed", "Redis initialization failed", "Timeout connecting to server", "OOM command not allowed when", "MISCONF Redis is configured", "LOADING Redis is loading", "READONLY You can't write against", "Timeout reading from ", "Redis is loading the dataset in memory"], 0.75).unless(&["has no attribute", "is not defined", "unexpected keyword", "No module named", "cannot import"]),
    dependency("smd.certificate-expired", &["certificate has expired", "CERT_HAS_EXPIRED"], 0.75).unless(&["asyncpg", "psycopg", "postgres"]),
    dependency("smd.http-pool", &["Max retries exceeded with url"], 0.7).capture(r"host='(?P<target>[^']+)', port=(?P<port>\d+)").unless(NOBODY),
    dependency("smd.httpx", &["httpx.Connect", "httpx.Read", "httpx.RemoteProtocolError", "httpcore.Connect", "httpcore.Read", "<urlopen error [Errno ", "<urlopen error timed out", "urllib.error.HTTPError: HTTP Error 50", "aiohttp.client_exceptions.ServerDisconnectedError", "aiohttp.client_exceptions.ClientOSError", "requests.exceptions.Connect", "requests.exceptions.ReadTimeout", "aiohttp.client_exceptions.ClientConnectorError", "Cannot connect to host ", "All connection attempts failed"], 0.7).unless(NOBODY),
    dependency("smd.quota", &["insufficient_quota", "openai.RateLimitError", "anthropic.RateLimitError", "google.api_core.exceptions.ResourceExhausted", "RESOURCE_EXHAUSTED", "overloaded_error", "InternalServerError: Error code: 5"], 0.7),
    // A client's own line about what the other side answered.
    dependency("smd.upstream-5xx", &["\"HTTP/1.1 50", "\"HTTP/2 50", "\"HTTP/1.0 50", "Server error '50"], 0.65).capture(r#"https?://(?P<target>[^/\s"]+)\S* "HTTP/[0-9.]+ 50\d|Server error '50\d[^\n]*for url 'https?://(?P<host>[^/\s"']+)"#).any_level(),
    dependency("smd.said-5xx", &[" returned 50", " responded with 50", " responded 50", " answered 50", " returned status 50", " got: 50"], 0.65).capture(r#"(?i)(?:(?P<target>\b[\w-]+)[ -](?:service|server|api|provider|upstream|endpoint)\b[^\n]{0,30}?|https?://(?P<host>[^/\s"']+)\S*) (?:returned|responded|responded with|answered)(?: status)? 50\d\b|expected 2[^\n]{0,20} got: 50\d\b"#),
    // The application's words about whoever checks its users' tokens.
    dependency("smd.checker-down", &["uth service unavailable", "uth service is unavailable", "uth service unreachable", "uth service is unreachable", "uthentication service unavailable", "uthentication service is unavailable", "uth service timed out", "uth service request failed", "uthentication service error (50", "uth service error (50"], 0.65),
    dependency("smd.client-5xx", &["Request failed with status code 50", "HttpServerErrorException", "FeignException$ServiceUnavailable"], 0.65),
    dependency("smd.address-refused", &["refused", "imed out", "o route to host"], 0.7).capture(r#"(?i)https?://(?P<target>[^/\s"'()]+)[^\n]{0,120}(?:connection refused|connection timed out|no route to host)|(?:connection refused|connection timed out|no route to host)[^\n]{0,40}https?://(?P<host>[^/\s"'()]+)"#).unless(&[":5432", ":3307", ":4317", ":4318", "127.0.0.1", "[::1]", "localhost", "postgres", "opentelemetry"]),
    dependency("smd.node-refused", &["connect ECONNREFUSED", "connect ETIMEDOUT", "getaddrinfo EAI_AGAIN"], 0.65).unless(&["5432", "3307"]),
    // Node's words that a call failed; its cause stands in the lines below.
    dependency("smd.fetch-failed", &["TypeError: fetch failed", "Error: fetch failed"], 0.65).attributes(&[("after_start", "below-error"), ("goes_on", "service"), ("says", "that")]),
    dependency("smd.broker", &["kafka.errors.NoBrokersAvailable", "AMQPConnectionError", "elastic_transport.ConnectionError", "google.api_core.exceptions.ServiceUnavailable", "google.api_core.exceptions.GatewayTimeout", "status = StatusCode.UNAVAILABLE", "run out of available brokers", "Broker may not be available", "Broker transport failure", "ll broker connections are down", "KafkaJSConnectionError", "KafkaJSNumberOfRetriesExceeded", "KafkaConnectionError", "KafkaTimeoutError", "nats: no servers available", "NoServersError", "MongoServerSelectionError", "MongooseServerSelectionError", "MongoNetworkError", "server selection error: ", "NoLivingConnectionsError", "no Elasticsearch node available", "kombu.exceptions.OperationalError", "pymongo.errors.ServerSelectionTimeoutError", "qdrant_client.http.exceptions.ResponseHandlingException", "WeaviateConnectionError", "clickhouse_connect.driver.exceptions", "clickhouse_driver.errors.NetworkError", "clickhouse_driver.errors.SocketTimeoutError", "DB::NetException"], 0.75),
    // Go's own words, of what is neither the database nor who collects traces.
    dependency("smd.go-dial", &["i/o timeout", "connect: connection refused", "connect: connection timed out", "connect: no route to host", "connect: network is unreachable"], 0.7).capture(r"dial tcp (?P<target>\S+:(?P<port>\d+)): ").unless(&[":5432: ", ":3307: ", ":4317: ", ":4318: ", "127.0.0.1:", "[::1]:", "localhost:"]),
    // nginx before whoever does not answer it.
    dependency("smd.nginx-upstream", &["while reading response header from upstream", "while reading upstream", "while connecting to upstream", "while SSL handshaking to upstream"], 0.75).capture(r#"upstream: "(?:\w+://)?(?P<target>[^/"\s]+)"#).attributes(BELOW_ERROR),
    setting("smd.nginx-host", &["host not found in upstream \""], 0.8),
    dependency("smd.upstream", &["upstream connect error or disconnect/reset before headers", "openai.APIConnectionError", "openai.APITimeoutError", "anthropic.APITimeoutError", "anthropic.APIConnectionError"], 0.65),
    // --- memory ----------------------------------------------------------------------------------
    LogSignal::new("smd.memory-limit", MEMORY, &["Memory limit of "]).with(&[" exceeded with "]).capture(r"Memory limit of (?P<limit>[\d.]+ ?\w+) exceeded with (?P<used>[\d.]+ ?\w+) used").speaks("out_of_memory", 0.9).from(Emitter::Platform).any_level().attributes(&[("effect", "self")]),
    LogSignal::new("smd.sigkill", MEMORY, &["was sent SIGKILL! Perhaps out of memory?"]).speaks("out_of_memory", 0.55).any_level().attributes(&[("effect", "self")]),
    LogSignal::new("smd.signal-9", MEMORY, &["Container terminated on signal 9"]).speaks("out_of_memory", 0.5).from(Emitter::Platform).any_level().attributes(&[("effect", "self")]),
    LogSignal::new("smd.allocation", MEMORY, &["JavaScript heap out of memory", "java.lang.OutOfMemoryError", "MemoryError", "std::bad_alloc", "Out of memory: Killed process"]).speaks("out_of_memory", 0.8).from(Emitter::Any).any_level().attributes(&[("effect", "self")]),
    LogSignal::new("smd.goes-on", GOES_ON, &["raceful degradation", "racefully degrad", "ontinuing without", "ontinuing anyway", "but not required", "is optional", "(optional", "non-critical", "using in-memory", "falling back to", "sing fallback", "as fallback", "ontinue without", "not critical", "Using MOCK client", "skipped in staging", "optional service"]).any_level(),
    // Workers that are asked by a queue or a clock answer nobody: Celery, APScheduler.
    LogSignal::new("smd.task-done", WORK_DONE, &["] succeeded in ", "\" executed successfully"]).capture(r#"\bTask \S+\[\S+\] succeeded in |\bJob "[^"]+" executed successfully"#).any_level(),
    LogSignal::new("smd.database-phase-words", PHASE_WORDS, &["Database initialization timeout after", "database initialization timed out after"]).any_level(),
    LogSignal::new("smd.worker-timeout", WORKER_TIMEOUT, &["WORKER TIMEOUT (pid:"]).any_level(),
    LogSignal::new("smd.liveness", WORKER_TIMEOUT, &["LIVENESS HTTP probe failed", "LIVENESS TCP probe failed", "LIVENESS GRPC probe failed"]).from(Emitter::Platform).any_level(),
    LogSignal::new("smd.stops", STOPS, &["tp: Server closed", "encountered a terminal error: SIGTERM"]).any_level(),
    LogSignal::new("smd.listens", LISTENS, &["Uvicorn running on http", "Listening at: http", "- Network: ", "istening on "]).capture(r"(?:running on|Listening at:|- Network:|[Ll]istening on)\s+(?:port |https?://)?(?P<host>\[[^\]]*\]:|[\w.-]+:|\*:|:|)(?P<port>\d{2,5})\b").any_level(),
    LogSignal::new("smd.asked", ASKED, &["STARTUP TCP probe failed", "STARTUP HTTP probe failed", "provided by the PORT="]).capture(r"probe failed[^\n]* on port (?P<port>\d+)|by the PORT=(?P<variable>\d+)").from(Emitter::Platform).any_level(),
    // --- a failed start-up, without a cause -------------------------------------------------------
    LogSignal::new("smd.exception", EXCEPTION, &["Traceback (most recent call last)", "CRITICAL STARTUP FAILURE: ", "Exception in thread \"main\"", "Unhandled exception", "Uncaught exception", "UnhandledPromiseRejection", "Application run failed"]).speaks(CODE, 0.3).unless(&["TimeoutError", "OperationalError", "CancelledError", "timeout", "ConnectionRefused", "KeyboardInterrupt", "SystemExit", "HaltServer", "Database", "database"]).attributes(HARMLESS),
    LogSignal::new("smd.lifespan-failed", LIFESPAN, &["Application startup failed. Exiting.", "Startup failed in lifespan manager", "ERROR:    Application startup failed"]).any_level(),
    LogSignal::new("smd.exit-3", EXIT, &["Container called exit(3)"]).from(Emitter::Platform).any_level(),
    LogSignal::new("smd.malformed-response", INSTANCE, &["either the HTTP response was malformed or connection to the instance had an error"]).from(Emitter::Platform).any_level(),
    LogSignal::new("smd.could-not-start", INSTANCE, &["the instance could not start successfully", "the instance failed the readiness check"]).from(Emitter::Platform).any_level(),
    LogSignal::new("smd.no-instance", INSTANCE, &["because there was no available instance"]).from(Emitter::Platform).any_level(),
];
