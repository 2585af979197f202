/* A web server for tests: 127.0.0.1, a port of the system's choice, a process a connection; what it
 * answers is the test's own function. It dies with the test.
 *
 *     static void answer(int fd, const lq_request *r, lq_hits *hits) { ... }
 *     lq_server s = lq_serve(answer);
 *     ... lq_server_url(&s, "127.0.0.1", "/path", room) ...
 *     lq_serve_stop(&s); */
#ifndef LQ_TESTS_SERVER_H
#define LQ_TESTS_SERVER_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

typedef struct lq_request {
    char path[512];
    char range[64], if_range[160], auth[256], accept[256];
    long long from; /* of "Range: bytes=FROM-"; -1: none */
} lq_request;

enum { LQ_HITS = 32 };
typedef struct lq_hits { /* shared by all processes of the server and the test */
    _Atomic int of[LQ_HITS];
    char seen[LQ_HITS][256];
} lq_hits;

typedef void (*lq_answer)(int fd, const lq_request *r, lq_hits *hits);
typedef struct lq_server {
    int port;
    pid_t pid;
    lq_hits *hits;
} lq_server;

static inline void lq_send(int fd, const void *data, size_t n)
{
    for (const char *at = data; n > 0;) {
        const ssize_t done = send(fd, at, n, MSG_NOSIGNAL);
        if (done <= 0)
            return;
        at += done;
        n -= (size_t)done;
    }
}

__attribute__((format(printf, 2, 3))) static inline void lq_sendf(int fd, const char *format, ...)
{
    char text[4096];
    va_list args;
    va_start(args, format);
    const int n = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    lq_send(fd, text, n > 0 && n < (int)sizeof text ? (size_t)n : 0);
}

static inline void lq_header(const char *head, const char *name, char *out, size_t room)
{
    const size_t length = strlen(name);
    out[0] = '\0';
    for (const char *line = strstr(head, "\r\n"); line; line = strstr(line + 2, "\r\n")) {
        if (strncasecmp(line + 2, name, length) != 0 || line[2 + length] != ':')
            continue;
        const char *value = line + 3 + length + strspn(line + 3 + length, " ");
        snprintf(out, room, "%.*s", (int)strcspn(value, "\r\n"), value);
    }
}

static inline void lq_serve_one(int fd, lq_answer answer, lq_hits *hits)
{
    char head[8192] = "";
    size_t n = 0;
    lq_request r = {.from = -1};
    while (n < sizeof head - 1 && strstr(head, "\r\n\r\n") == NULL) {
        const ssize_t got = recv(fd, head + n, sizeof head - 1 - n, 0);
        if (got <= 0)
            return;
        n += (size_t)got;
        head[n] = '\0';
    }
    const char *path = strchr(head, ' ');
    if (path != NULL)
        snprintf(r.path, sizeof r.path, "%.*s", (int)strcspn(path + 1, " \r"), path + 1);
    lq_header(head, "Range", r.range, sizeof r.range);
    lq_header(head, "If-Range", r.if_range, sizeof r.if_range);
    lq_header(head, "Authorization", r.auth, sizeof r.auth);
    lq_header(head, "Accept", r.accept, sizeof r.accept);
    if (strncmp(r.range, "bytes=", 6) == 0)
        r.from = strtoll(r.range + 6, NULL, 10);
    answer(fd, &r, hits);
}

static inline void lq_serve_all(int listener, lq_answer answer, lq_hits *hits)
{
    signal(SIGCHLD, SIG_IGN);
    for (;;) {
        const int fd = accept(listener, NULL, NULL);
        if (fd < 0 || fork() != 0) {
            close(fd);
            continue;
        }
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        lq_serve_one(fd, answer, hits);
        shutdown(fd, SHUT_WR);
        close(fd);
        _Exit(0);
    }
}

static inline lq_server lq_serve(lq_answer answer)
{
    lq_server s = {0};
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof address;
    const int listener = socket(AF_INET, SOCK_STREAM, 0);
    assert_true(listener >= 0);
    assert_int_equal(bind(listener, (const struct sockaddr *)&address, size), 0);
    assert_int_equal(listen(listener, 64), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &size), 0);
    s.port = ntohs(address.sin_port);
    s.hits = mmap(NULL, sizeof *s.hits, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(s.hits != MAP_FAILED);
    s.pid = fork();
    if (s.pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        lq_serve_all(listener, answer, s.hits);
        _Exit(0);
    }
    close(listener);
    return s;
}

static inline void lq_serve_stop(lq_server *s)
{
    kill(s->pid, SIGKILL);
    waitpid(s->pid, NULL, 0);
    munmap(s->hits, sizeof *s->hits);
}

/* A body, whole or from r->from on, as a server does that knows Range. */
static inline void lq_send_body(int fd, const lq_request *r, const char *headers, const char *body,
                                size_t n)
{
    if (r->from > 0 && (size_t)r->from >= n) {
        lq_sendf(fd, "HTTP/1.1 416 No\r\nContent-Range: bytes */%zu\r\nContent-Length: 0\r\n\r\n",
                 n);
        return;
    }
    const size_t from = r->from > 0 ? (size_t)r->from : 0;
    if (r->from > 0)
        lq_sendf(fd, "HTTP/1.1 206 Part\r\nContent-Range: bytes %zu-%zu/%zu\r\n", from, n - 1, n);
    else
        lq_sendf(fd, "HTTP/1.1 200 OK\r\n");
    lq_sendf(fd, "%sContent-Length: %zu\r\nConnection: close\r\n\r\n", headers, n - from);
    lq_send(fd, body + from, n - from);
}

#endif
