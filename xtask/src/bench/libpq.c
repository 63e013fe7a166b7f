/* libpq doing what the ladder does: connect, `select 1`, close and wait for the server's end.
   usage: libpq CONNINFO COUNT AT_ONCE; prints what shakedown-bench prints. */
#include <libpq-fe.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char *conninfo;

static void fail(const char *what, PGconn *conn) {
    fprintf(stderr, "%s: %s\n", what, conn ? PQerrorMessage(conn) : "");
    exit(1);
}

static void once(void) {
    PGconn *conn = PQconnectdb(conninfo);
    if (PQstatus(conn) != CONNECTION_OK) fail("connect", conn);
    PGresult *result = PQexec(conn, "select 1");
    if (PQresultStatus(result) != PGRES_TUPLES_OK || PQntuples(result) != 1) fail("query", conn);
    PQclear(result);
    /* PQfinish says goodbye and closes; the copy stays to see the server close its end. */
    int copy = dup(PQsocket(conn));
    PQfinish(conn);
    char byte;
    struct pollfd wait = {.fd = copy, .events = POLLIN};
    if (copy < 0 || poll(&wait, 1, 1000) != 1 || read(copy, &byte, 1) != 0) fail("close", NULL);
    close(copy);
}

static void *repeat(void *count) {
    for (long i = 0; i < (long)count; i++) once();
    return NULL;
}

static double us(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return t.tv_sec * 1e6 + t.tv_nsec / 1e3;
}

int main(int argc, char **argv) {
    if (argc != 4) return 2;
    conninfo = argv[1];
    long each = atol(argv[2]) / atol(argv[3]);
    int threads = atoi(argv[3]);
    pthread_t thread[64];
    if (threads < 1 || threads > 64) return 2;
    once();
    double cpu = us(CLOCK_PROCESS_CPUTIME_ID), wall = us(CLOCK_MONOTONIC);
    if (threads == 1) {
        repeat((void *)each);
    } else {
        for (int i = 0; i < threads; i++) pthread_create(&thread[i], NULL, repeat, (void *)each);
        for (int i = 0; i < threads; i++) pthread_join(thread[i], NULL);
    }
    wall = us(CLOCK_MONOTONIC) - wall;
    cpu = us(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    double count = (double)each * threads;
    printf("{\"connects\":%.0f,\"wall_us\":%f,\"cpu_us\":%f}\n", count, wall / count, cpu / count);
    return 0;
}
