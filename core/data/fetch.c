/* The only door to libcurl: one request, its redirects followed by hand, so that each hop is checked
 * before a byte is sent to it. */
#include "core/data/fetch.h"

#include "core/base/clock.h"
#include "core/data/fetch_parts.h"

#include <curl/curl.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { REDIRECTS = 8, ERROR_PAGE_BYTES = 1 << 20, CONNECT_S = 20, SLOWEST_BYTES_PER_S = 100 };

const lq_fetch_pace lq_fetch_usual = {.attempts = 5, .backoff_ms = 1000, .stall_s = 30};

/* --- URLs ------------------------------------------------------------------------------------- */

typedef struct address { /* what decides about trust */
    char scheme[8], host[256], port[8];
} address;

static bool part_of(CURLU *url, CURLUPart part, char *out, size_t room)
{
    char *text = NULL;
    const bool fits =
        curl_url_get(url, part, &text, CURLU_DEFAULT_PORT) == CURLUE_OK && strlen(text) < room;
    if (fits)
        memcpy(out, text, strlen(text) + 1);
    curl_free(text);
    return fits;
}

static bool address_of(const char *text, address *out)
{
    CURLU *url = curl_url();
    const bool good = url != NULL && curl_url_set(url, CURLUPART_URL, text, 0) == CURLUE_OK &&
                      part_of(url, CURLUPART_SCHEME, out->scheme, sizeof out->scheme) &&
                      part_of(url, CURLUPART_HOST, out->host, sizeof out->host) &&
                      part_of(url, CURLUPART_PORT, out->port, sizeof out->port);
    curl_url_cleanup(url);
    return good;
}

/* The URL without user, password, query and fragment: those may hold secrets. */
static void show(const char *text, char *out, size_t room)
{
    char *shown = NULL;
    CURLU *url = curl_url();
    snprintf(out, room, "(no URL)");
    if (url != NULL && curl_url_set(url, CURLUPART_URL, text, 0) == CURLUE_OK) {
        static const CURLUPart secret[] = {CURLUPART_USER, CURLUPART_PASSWORD, CURLUPART_OPTIONS,
                                           CURLUPART_QUERY, CURLUPART_FRAGMENT};
        for (size_t i = 0; i < sizeof secret / sizeof secret[0]; i++)
            curl_url_set(url, secret[i], NULL, 0);
        if (curl_url_get(url, CURLUPART_URL, &shown, 0) == CURLUE_OK)
            snprintf(out, room, "%s", shown);
    }
    curl_free(shown);
    curl_url_cleanup(url);
}

static bool is_this_machine(const address *a)
{
    return strcmp(a->host, "127.0.0.1") == 0 || strcasecmp(a->host, "localhost") == 0 ||
           strcmp(a->host, "[::1]") == 0;
}

static bool allowed(const address *to, const address *from)
{
    if (strcmp(to->scheme, "https") == 0)
        return true;
    return strcmp(to->scheme, "http") == 0 && is_this_machine(to) &&
           (from == NULL || strcmp(from->scheme, "http") == 0);
}

static bool same_place(const address *a, const address *b)
{
    return strcmp(a->scheme, b->scheme) == 0 && strcasecmp(a->host, b->host) == 0 &&
           strcmp(a->port, b->port) == 0;
}

static lq_status check_address(const char *url, const address *from, address *out)
{
    char shown[512];
    show(url, shown, sizeof shown);
    if (!address_of(url, out))
        return lq_fail(LQ_E_IO, "%s: not a URL of a server", shown);
    if (!allowed(out, from))
        return lq_fail(LQ_E_IO, "%s: refused: only https is fetched%s", shown,
                       from == NULL ? " (http from this machine alone)"
                                    : ", and it redirects here");
    return LQ_OK;
}

lq_status lq_fetch_resolve(const char *base, const char *reference, lq_arena *arena,
                           const char **out)
{
    address from, to;
    char *text = NULL;
    LQ_TRY(check_address(base, NULL, &from));
    CURLU *url = curl_url();
    const bool good = url != NULL && curl_url_set(url, CURLUPART_URL, base, 0) == CURLUE_OK &&
                      curl_url_set(url, CURLUPART_URL, reference, 0) == CURLUE_OK &&
                      curl_url_get(url, CURLUPART_URL, &text, 0) == CURLUE_OK;
    if (good)
        *out = lq_arena_printf(arena, "%s", text);
    curl_free(text);
    curl_url_cleanup(url);
    if (!good || check_address(*out, &from, &to) != LQ_OK)
        return lq_fail(LQ_E_FORMAT, "%.200s: no URL to fetch from", reference);
    return LQ_OK;
}

const char *lq_fetch_escape(const char *text, lq_arena *arena)
{
    static const char plain[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~/";
    const size_t n = strlen(text);
    char *out = lq_arena_printf(arena, "%*s", (int)(3 * n), ""), *end = out;
    for (size_t i = 0; i < n; i++) {
        if (strchr(plain, text[i]) != NULL)
            *end++ = text[i];
        else
            end += snprintf(end, 4, "%%%02X", (unsigned char)text[i]);
    }
    *end = '\0';
    return out;
}

/* --- one hop ---------------------------------------------------------------------------------- */

typedef struct hop {
    const lq_exchange *x;
    lq_reply *reply;
    CURL *easy;
    bool began;
    size_t discarded;
    lq_status failed; /* what a callback met; its note is the thread's */
} hop;

static bool has_body(const lq_reply *reply) { return reply->http == 200 || reply->http == 206; }

static void copy_value(char *out, size_t room, const char *value, size_t n)
{
    if (n >= room)
        n = 0; /* too long to be what we look for; a cut one would be wrong */
    memcpy(out, value, n);
    out[n] = '\0';
}

/* "bytes 100-199/200", "bytes 100-199/" followed by a star, "bytes" star "/200" */
static void read_range(const char *value, lq_reply *reply)
{
    char *end;
    if (strncasecmp(value, "bytes ", 6) != 0)
        return;
    if (value[6] >= '0' && value[6] <= '9')
        reply->first = strtoull(value + 6, &end, 10);
    const char *slash = strchr(value, '/');
    if (slash != NULL && slash[1] >= '0' && slash[1] <= '9')
        reply->total = strtoull(slash + 1, &end, 10);
}

/* Link: <https://...?cursor=x>; rel="next" */
static void read_link(const char *value, lq_reply *reply)
{
    const char *open = strchr(value, '<'), *close = open ? strchr(open, '>') : NULL;
    if (close != NULL && strstr(close, "rel=\"next\"") != NULL)
        copy_value(reply->next, sizeof reply->next, open + 1, (size_t)(close - open - 1));
}

static void read_header(lq_reply *reply, const char *name, size_t n, const char *value)
{
    const size_t length = strlen(value);
#define IS(text) (n == sizeof text - 1 && strncasecmp(name, text, n) == 0)
    if (IS("content-type"))
        copy_value(reply->type, sizeof reply->type, value, strcspn(value, "; "));
    else if (IS("x-error-code"))
        copy_value(reply->error, sizeof reply->error, value, length);
    else if (IS("etag") && value[0] == '"')
        copy_value(reply->etag, sizeof reply->etag, value, length);
    else if (IS("content-range"))
        read_range(value, reply);
    else if (IS("link"))
        read_link(value, reply);
    else if (IS("retry-after") && value[0] >= '0' && value[0] <= '9')
        reply->retry_after_s = strtod(value, NULL);
#undef IS
}

static void clear_reply(lq_reply *reply)
{
    *reply = (lq_reply){.length = UINT64_MAX, .first = UINT64_MAX, .total = UINT64_MAX};
}

static size_t on_header(char *data, size_t size, size_t n, void *self)
{
    const hop *h = self;
    char line[2048];
    n *= size;
    if (n >= 5 && strncmp(data, "HTTP/", 5) == 0)
        clear_reply(h->reply); /* of a 100 Continue, or a proxy's own */
    const char *colon = memchr(data, ':', n);
    if (colon == NULL || n >= sizeof line)
        return n;
    memcpy(line, data, n);
    line[n] = '\0';
    char *value = line + (colon - data) + 1;
    value += strspn(value, " \t");
    value[strcspn(value, "\r\n")] = '\0';
    read_header(h->reply, line, (size_t)(colon - data), value);
    return n;
}

/* Reads what libcurl knows; true when the body is wanted. */
static bool begin(hop *h)
{
    curl_off_t length = -1;
    if (h->began)
        return h->failed == LQ_OK;
    h->began = true;
    curl_easy_getinfo(h->easy, CURLINFO_RESPONSE_CODE, &h->reply->http);
    if (curl_easy_getinfo(h->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length) == CURLE_OK &&
        length >= 0)
        h->reply->length = (uint64_t)length;
    if (has_body(h->reply))
        h->failed = h->x->on_begin(h->x->self, h->reply);
    return h->failed == LQ_OK;
}

static size_t on_body(char *data, size_t size, size_t n, void *self)
{
    hop *h = self;
    n *= size;
    if (!begin(h))
        return 0;
    if (!has_body(h->reply)) { /* an error's page, or a redirect's: of no use */
        h->discarded += n;
        return h->discarded > ERROR_PAGE_BYTES ? 0 : n;
    }
    h->failed = h->x->on_data(h->x->self, data, n);
    return h->failed == LQ_OK ? n : 0;
}

static int on_progress(void *self, curl_off_t total, curl_off_t now, curl_off_t up_total,
                       curl_off_t up)
{
    (void)self, (void)total, (void)now, (void)up_total, (void)up;
    return lq_stop_asked() ? 1 : 0;
}

static struct curl_slist *headers_of(const lq_exchange *x, bool trusted)
{
    char line[4096];
    struct curl_slist *list = NULL;
    if (x->want->accept != NULL) {
        snprintf(line, sizeof line, "Accept: %s", x->want->accept);
        list = curl_slist_append(list, line);
    }
    if (x->want->token != NULL && trusted) {
        snprintf(line, sizeof line, "Authorization: Bearer %s", x->want->token);
        list = curl_slist_append(list, line);
    }
    if (x->from > 0 && x->if_range != NULL) {
        snprintf(line, sizeof line, "If-Range: %s", x->if_range);
        list = curl_slist_append(list, line);
    }
    return list;
}

static void set_up(CURL *easy, hop *h, const char *url, const struct curl_slist *headers,
                   bool local)
{
    const lq_fetch_pace *pace = h->x->want->pace ? h->x->want->pace : &lq_fetch_usual;
    const char *bundle = getenv("CURL_CA_BUNDLE"), *file = getenv("SSL_CERT_FILE");
    char range[32];
    curl_easy_setopt(easy, CURLOPT_URL, url);
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 1L);
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 2L);
    if (bundle && *bundle)
        curl_easy_setopt(easy, CURLOPT_CAINFO, bundle);
    else if (file && *file)
        curl_easy_setopt(easy, CURLOPT_CAINFO, file);
    if (local)
        curl_easy_setopt(easy, CURLOPT_PROXY, ""); /* no proxy knows this machine by that name */
    curl_easy_setopt(easy, CURLOPT_USERAGENT, "lcqat");
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT, (long)CONNECT_S);
    curl_easy_setopt(easy, CURLOPT_LOW_SPEED_LIMIT, (long)SLOWEST_BYTES_PER_S);
    curl_easy_setopt(easy, CURLOPT_LOW_SPEED_TIME, (long)pace->stall_s);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, h);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, h);
    curl_easy_setopt(easy, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(easy, CURLOPT_XFERINFOFUNCTION, on_progress);
    snprintf(range, sizeof range, "%llu-", (unsigned long long)h->x->from);
    if (h->x->from > 0)
        curl_easy_setopt(easy, CURLOPT_RANGE, range); /* libcurl copies it */
}

static lq_status judge_transport(CURLcode code, const char *shown, lq_outlook *outlook)
{
    outlook->again = true;
    if (code == CURLE_ABORTED_BY_CALLBACK || lq_stop_asked()) {
        outlook->again = false;
        return lq_fail(LQ_E_STOPPED, "%s: stopped; the next fetch goes on from here", shown);
    }
    if (code == CURLE_COULDNT_RESOLVE_HOST || code == CURLE_COULDNT_RESOLVE_PROXY ||
        code == CURLE_COULDNT_CONNECT)
        outlook->unreachable = true;
    if (code == CURLE_PEER_FAILED_VERIFICATION || code == CURLE_SSL_CACERT_BADFILE ||
        code == CURLE_URL_MALFORMAT || code == CURLE_UNSUPPORTED_PROTOCOL)
        outlook->again = false;
    return lq_fail(LQ_E_IO, "%s: %s", shown, curl_easy_strerror(code));
}

static lq_status judge_http(const lq_reply *reply, const char *shown, lq_outlook *outlook)
{
    const long http = reply->http;
    if (has_body(reply) || http == 416)
        return LQ_OK;
    outlook->again = http == 408 || http == 425 || http == 429 || (http >= 500 && http != 501);
    const bool missing = http == 401 || http == 403 || http == 404 || http == 410 || http == 451;
    return lq_fail(missing ? LQ_E_MISSING : LQ_E_IO, "%s: the server answers %ld%s%s%s", shown,
                   http, reply->error[0] ? " (" : "", reply->error, reply->error[0] ? ")" : "");
}

static bool is_redirect(long http)
{
    return http == 301 || http == 302 || http == 303 || http == 307 || http == 308;
}

/* One request to `url`. *next: where a redirect leads, owned by the caller; NULL: it is none. */
static lq_status run_hop(const lq_exchange *x, const char *url, bool trusted, bool local,
                         lq_reply *reply, lq_outlook *outlook, char **next)
{
    char shown[512], *target = NULL;
    show(url, shown, sizeof shown);
    hop h = {.x = x, .reply = reply, .easy = curl_easy_init()};
    if (h.easy == NULL)
        return lq_fail(LQ_E_MEMORY, "%s: out of memory for a connection", shown);
    clear_reply(reply);
    struct curl_slist *headers = headers_of(x, trusted);
    set_up(h.easy, &h, url, headers, local);
    const CURLcode code = curl_easy_perform(h.easy);
    if (code == CURLE_OK)
        (void)begin(&h);
    lq_status status = h.failed;
    if (status == LQ_OK && code != CURLE_OK && (has_body(reply) || h.discarded == 0))
        status = judge_transport(code, shown, outlook);
    else if (status == LQ_OK && is_redirect(reply->http) &&
             curl_easy_getinfo(h.easy, CURLINFO_REDIRECT_URL, &target) == CURLE_OK && target) {
        *next = strdup(target);
        if (*next == NULL)
            status = lq_fail(LQ_E_MEMORY, "%s: out of memory", shown);
    } else if (status == LQ_OK) {
        status = judge_http(reply, shown, outlook);
    }
    curl_slist_free_all(headers);
    curl_easy_cleanup(h.easy);
    return status;
}

static void start_libcurl(void) { curl_global_init(CURL_GLOBAL_DEFAULT); }

lq_status lq_exchange_run(const lq_exchange *x, lq_reply *reply, lq_outlook *outlook)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, start_libcurl);
    address first = {0}, here;
    char *url = strdup(x->want->url);
    *outlook = (lq_outlook){0};
    lq_status status = url == NULL ? lq_fail(LQ_E_MEMORY, "out of memory for a URL")
                                   : check_address(url, NULL, &first);
    here = first;
    for (int hops = 0; status == LQ_OK; hops++) {
        char *next = NULL;
        status = run_hop(x, url, same_place(&here, &first), is_this_machine(&here), reply, outlook,
                         &next);
        if (next == NULL)
            break;
        free(url);
        url = next;
        const address from = here;
        status = hops == REDIRECTS ? lq_fail(LQ_E_IO, "%s: redirected more than %d times",
                                             x->want->what, REDIRECTS)
                                   : check_address(url, &from, &here);
    }
    free(url);
    return status;
}
