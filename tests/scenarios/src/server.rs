//! A real Git server: `git http-backend` behind nginx, on loopback.

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::process::{finish, wait_until};
use crate::skip;

/// Serves the repositories of a directory over HTTP until dropped.
pub struct GitServer {
    nginx: Child,
    cgi: Child,
    port: u16,
    dir: tempfile::TempDir,
}

impl GitServer {
    /// A server without repositories; `None`, with a line that says so, where its programs are missing.
    ///
    /// # Panics
    /// When they are there and do not start.
    pub fn start() -> Option<Self> {
        let find = |name: &str| ["/usr/sbin", "/usr/bin"].iter().map(|d| Path::new(d).join(name)).find(|p| p.exists());
        let (Some(nginx), Some(cgi)) = (find("nginx"), find("fcgiwrap")) else {
            skip("a repository from a Git server", "nginx or fcgiwrap is not installed");
            return None;
        };
        let exec_path = Command::new("git").arg("--exec-path").output().unwrap().stdout;
        let backend = Path::new(String::from_utf8_lossy(&exec_path).trim()).join("git-http-backend");
        let dir = tempfile::Builder::new().prefix("cove-git-server-").tempdir().unwrap();
        let socket = dir.path().join("cgi.sock");
        std::fs::create_dir(dir.path().join("repositories")).unwrap();
        let cgi = Command::new(cgi)
            .arg("-s")
            .arg(format!("unix:{}", socket.display()))
            .env("GIT_CONFIG_COUNT", "1")
            .env("GIT_CONFIG_KEY_0", "safe.directory")
            .env("GIT_CONFIG_VALUE_0", "*")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        wait_until("the CGI socket", Duration::from_secs(30), || socket.exists().then_some(()));
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let base = dir.path().display();
        let user = if nix::unistd::Uid::effective().is_root() { "user root;" } else { "" };
        let configuration = format!(
            "{user} daemon off; pid {base}/nginx.pid; error_log {base}/error.log; worker_processes 1;
             events {{ worker_connections 64; }}
             http {{
               access_log off; client_body_temp_path {base}/body; proxy_temp_path {base}/proxy;
               fastcgi_temp_path {base}/fastcgi; uwsgi_temp_path {base}/uwsgi; scgi_temp_path {base}/scgi;
               server {{ listen 127.0.0.1:{port}; location / {{
                 fastcgi_pass unix:{}; fastcgi_param SCRIPT_FILENAME {};
                 fastcgi_param GIT_PROJECT_ROOT {base}/repositories; fastcgi_param GIT_HTTP_EXPORT_ALL \"1\";
                 fastcgi_param PATH_INFO $uri; fastcgi_param QUERY_STRING $query_string;
                 fastcgi_param REQUEST_METHOD $request_method; fastcgi_param CONTENT_TYPE $content_type;
                 fastcgi_param CONTENT_LENGTH $content_length; fastcgi_param HTTP_GIT_PROTOCOL $http_git_protocol;
               }} }}
             }}",
            socket.display(),
            backend.display()
        );
        let file = dir.path().join("nginx.conf");
        std::fs::write(&file, configuration).unwrap();
        let nginx = Command::new(nginx)
            .arg("-p")
            .arg(dir.path())
            .arg("-c")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let this = Self { nginx, cgi, port, dir };
        wait_until("nginx", Duration::from_secs(30), || TcpStream::connect(("127.0.0.1", port)).ok());
        Some(this)
    }

    /// Publishes a bare copy of a repository and returns its URL.
    pub fn publish(&self, repository: &Path, name: &str) -> String {
        let mut clone = Command::new("git");
        clone.args(["-c", "safe.directory=*", "clone", "--quiet", "--bare", "--"]).arg(repository);
        clone.arg(self.dir.path().join("repositories").join(name));
        finish(clone, Duration::from_secs(60)).expect(0);
        format!("http://127.0.0.1:{}/{name}", self.port)
    }
}

impl Drop for GitServer {
    fn drop(&mut self) {
        use nix::sys::signal::{Signal, kill};
        // nginx ends its worker when it is asked to, not when it is killed.
        let _ = kill(nix::unistd::Pid::from_raw(i32::try_from(self.nginx.id()).unwrap_or(0)), Signal::SIGTERM);
        let _ = self.nginx.wait();
        let _ = self.cgi.kill();
        let _ = self.cgi.wait();
    }
}
