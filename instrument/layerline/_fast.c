/* layerline._fast: what happens at every start and end of a span, in C. The same as thread.py, account.py, caller.py and
 * encode.py do in Python, in the order of this file:
 *
 *   Open, Thread   an open span's account, and its thread's last reading (thread.py); Thread.advance takes a reading
 *   Callers        who opens a span: a plain function, or one that can be left half way (caller.py)
 *   Hooks          on_start and _on_ending of the account (account.py)
 *   Encoder        a finished span as OTLP bytes (encode.py)
 *   Queue          on_end: the bytes into the SDK's queue (export.py)
 *   read           a file of the kernel, without giving the lock away (kernel.py)
 *   share_*        what profilers outside of the process read (share_context.py)
 *
 * Rules:
 * - Only the usual case is here. Whatever else comes (an asyncio task, a greenlet, a span that ends out of order, a trace
 *   state) is handed to the Python code before anything has been changed.
 * - An exception of ours goes to Account.failed, which deals with it as everywhere (guard.py). Nothing else is caught: an
 *   exception that is no Exception (KeyboardInterrupt) is the application's.
 * - Before a call that may run Python code (an attribute that is a property, a mask, a log handler) what is borrowed is
 *   owned; after it, sizes are asked for again.
 * - The interpreter lock is never given away: reading two clocks and a file of /proc takes a microsecond, and waiting for
 *   the lock again took 40 (kernel.py).
 * - Main interpreter only, limited API of Python 3.11: one binary serves all later versions.
 */
#define _GNU_SOURCE
#define PY_SSIZE_T_CLEAN
#ifndef Py_LIMITED_API
#define Py_LIMITED_API 0x030B0000
#endif
#include <Python.h>
#include <structmember.h>

#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define NUMBERS 4         /* of a piece: start, end, CPU, wait */
#define ROOM (32 * NUMBERS) /* as in thread.py */
#define DENSE_NS 50000
#define SLEPT_NS 1000000
#define DEEPEST 256       /* as in account.py */

/* ---- names, made once */

static PyObject *s_start_time, *s_end_time, *s_parent, *s_attributes, *s_dict, *s_context, *s_resource, *s_scope, *s_events,
    *s_links, *s_name, *s_kind, *s_status, *s_status_code, *s_description, *s_dropped, *s_dq, *s_open, *s_thread, *s_fd,
    *s_read, *s_read_blkio, *s_idle, *s_wake, *s_f_back, *s_greenlet, *s_timestamp, *s_value,
    *s_entered, *s_ending_entry, *s_ending_more, *s_failed, *s_watcher, *s_delays, *s_text_thread, *s_slow, *s_head, *s_queue, *s_pid,
    *s_shutdown, *s_appendleft, *s_emit;
static PyObject *merged_function;   /* thread.merged */
static PyTypeObject *Open_type, *Thread_type, *Encoder_type;
static long long forks;             /* as Open.forks of thread.py */

static const struct { PyObject **where; const char *text; } NAMES[] = {
    {&s_start_time, "_start_time"}, {&s_end_time, "_end_time"}, {&s_parent, "_parent"}, {&s_attributes, "_attributes"},
    {&s_dict, "_dict"}, {&s_context, "_context"}, {&s_resource, "_resource"}, {&s_scope, "_instrumentation_scope"},
    {&s_events, "_events"}, {&s_links, "_links"}, {&s_name, "_name"}, {&s_kind, "_kind"}, {&s_status, "_status"},
    {&s_status_code, "status_code"}, {&s_description, "description"}, {&s_dropped, "dropped"}, {&s_dq, "_dq"},
    {&s_open, "_layerline_open"}, {&s_thread, "thread"}, {&s_fd, "fd"}, {&s_read, "read"},
    {&s_read_blkio, "read_blkio"}, {&s_idle, "idle"}, {&s_wake, "wake"}, {&s_f_back, "f_back"},
    {&s_greenlet, "greenlet"}, {&s_timestamp, "_timestamp"}, {&s_value, "value"}, 
    {&s_entered, "entered"}, {&s_ending_entry, "ending_entry"},
    {&s_ending_more, "ending_more"}, {&s_failed, "failed"}, {&s_watcher, "_watcher"}, {&s_delays, "_delays"},
    {&s_text_thread, "thread"}, {&s_slow, "encode_slowly"}, 
    {&s_head, "head"},
    {&s_queue, "_queue"}, {&s_pid, "_pid"}, {&s_shutdown, "_shutdown"}, {&s_appendleft, "appendleft"}, {&s_emit, "emit"},
};

static long long now_ns(clockid_t clock)
{
    struct timespec at;
    if (clock_gettime(clock, &at) != 0)
        return 0;
    return (long long)at.tv_sec * 1000000000LL + at.tv_nsec;
}

/* An int attribute of a span. -1 with an exception if it is none. */
static int number_of(PyObject *object, PyObject *name, long long *value)
{
    PyObject *found = PyObject_GetAttr(object, name);
    if (found == NULL)
        return -1;
    *value = PyLong_AsLongLong(found);
    Py_DECREF(found);
    return *value == -1 && PyErr_Occurred() ? -1 : 0;
}

/* ---- Open: an open span's own account (thread.py has the Python one, and what each field means) */

typedef struct {
    PyObject_HEAD
    PyObject *meters, *accepted, *queued, *seen, *holders, *task, *held_by, *thread, *reason, *pieces;
    long long began, cpu, wait, gc, blkio, major_faults, blocks_read, blocks_written, voluntary, involuntary, tid, born,
        loop_wait, loop_low, held_ns, loop_stood, loop_stood_low;
    double system;
    char entry, first;
} Open;

#define EACH_OF_OPEN(DO) DO(meters) DO(accepted) DO(queued) DO(seen) DO(holders) DO(task) DO(held_by) DO(thread) \
    DO(reason) DO(pieces)

static PyMemberDef Open_members[] = {
#define OBJECT(name) {#name, T_OBJECT_EX, offsetof(Open, name), 0, NULL},
#define WHOLE(name) {#name, T_LONGLONG, offsetof(Open, name), 0, NULL},
    EACH_OF_OPEN(OBJECT)
    WHOLE(began) WHOLE(cpu) WHOLE(wait) WHOLE(gc) WHOLE(blkio) WHOLE(major_faults) WHOLE(blocks_read)
    WHOLE(blocks_written) WHOLE(voluntary) WHOLE(involuntary) WHOLE(tid) WHOLE(born) WHOLE(loop_wait) WHOLE(loop_low)
    WHOLE(held_ns) WHOLE(loop_stood) WHOLE(loop_stood_low)
    {"system", T_DOUBLE, offsetof(Open, system), 0, NULL},
    {"entry", T_BOOL, offsetof(Open, entry), 0, NULL},
    {"first", T_BOOL, offsetof(Open, first), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};
#undef WHOLE
#undef OBJECT

static int Open_traverse(Open *self, visitproc visit, void *arg)
{
#define VISIT(name) Py_VISIT(self->name);
    EACH_OF_OPEN(VISIT)
#undef VISIT
    Py_VISIT(Py_TYPE((PyObject *)self));
    return 0;
}

static int Open_clear(Open *self)
{
#define CLEAR(name) Py_CLEAR(self->name);
    EACH_OF_OPEN(CLEAR)
#undef CLEAR
    return 0;
}

static void Open_dealloc(Open *self)
{
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    PyObject_GC_UnTrack(self);
    Open_clear(self);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

static PyObject *own(PyObject *object)
{
    Py_INCREF(object);
    return object;
}

static Open *new_open(PyTypeObject *type, long long tid, PyObject *thread, PyObject *reason)
{
    static allocfunc allocate; /* the type's own: it has no subclass */
    if (allocate == NULL)
        allocate = (allocfunc)PyType_GetSlot(Open_type, Py_tp_alloc);
    Open *self = (Open *)allocate(type, 0); /* zeroed */
    if (self == NULL)
        return NULL;
    self->meters = own(Py_None);
    self->accepted = own(Py_None);
    self->queued = own(Py_None);
    self->seen = own(Py_None);
    self->holders = own(Py_None);
    self->task = own(Py_None);
    self->thread = own(thread);
    self->reason = own(reason);
    self->held_by = PyUnicode_FromStringAndSize("", 0);
    self->pieces = PyList_New(0);
    self->tid = tid;
    self->born = forks;
    if (self->held_by == NULL || self->pieces == NULL) {
        Py_DECREF(self);
        return NULL;
    }
    return self;
}

static PyObject *Open_new(PyTypeObject *type, PyObject *arguments, PyObject *named)
{
    long long tid;
    PyObject *thread, *reason;
    (void)named;
    if (!PyArg_ParseTuple(arguments, "LOO:Open", &tid, &thread, &reason))
        return NULL;
    return (PyObject *)new_open(type, tid, thread, reason);
}

static PyType_Slot Open_slots[] = {
    {Py_tp_doc, "An open span's own account: thread.Open in C."},
    {Py_tp_new, Open_new},
    {Py_tp_dealloc, Open_dealloc},
    {Py_tp_traverse, Open_traverse},
    {Py_tp_clear, Open_clear},
    {Py_tp_members, Open_members},
    {0, NULL},
};
static PyType_Spec Open_spec = {
    "layerline._fast.Open", sizeof(Open), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, Open_slots,
};

static int is_open(PyObject *object)
{
    return Py_TYPE(object) == Open_type;
}

/* One more piece. -1 with an exception, and the list as it was, where there is no memory. */
static int add_piece(Open *opened, long long start, long long end, long long cpu, long long wait)
{
    long long numbers[NUMBERS] = {start, end, cpu, wait};
    PyObject *pieces = opened->pieces;
    if (pieces == NULL || !PyList_Check(pieces)) {
        PyErr_SetString(PyExc_TypeError, "Open.pieces: expected a list");
        return -1;
    }
    Py_ssize_t size = PyList_Size(pieces);
    for (int i = 0; i < NUMBERS; i++) {
        PyObject *number = PyLong_FromLongLong(numbers[i]);
        int failed = number == NULL || PyList_Append(pieces, number) < 0;
        Py_XDECREF(number);
        if (failed) {
            PyObject *type, *value, *trace;
            PyErr_Fetch(&type, &value, &trace);
            if (PyList_SetSlice(pieces, size, PyList_Size(pieces), NULL) < 0)
                PyErr_Clear();
            PyErr_Restore(type, value, trace);
            return -1;
        }
    }
    return 0;
}

/* ---- Thread: a thread's last reading and the stack of its open spans */

typedef struct {
    PyObject_HEAD
    PyObject *weak;
    PyObject *stack, *meters, *held, *schedstat, *stat, *why;
    long long tid, ident, at, read_at, cpu, wait, blkio, gc_from, late, ended, ended_wait, noted, handed;
    long long major_faults, blocks_read, blocks_written, voluntary, involuntary; /* by the last reading */
    double system;
} Thread;

#define EACH_OF_THREAD(DO) DO(stack) DO(meters) DO(held) DO(schedstat) DO(stat) DO(why)

static PyMemberDef Thread_members[] = {
#define OBJECT(name) {#name, T_OBJECT_EX, offsetof(Thread, name), 0, NULL},
#define WHOLE(name) {#name, T_LONGLONG, offsetof(Thread, name), 0, NULL},
    EACH_OF_THREAD(OBJECT)
    WHOLE(tid) WHOLE(at) WHOLE(read_at) WHOLE(cpu) WHOLE(wait) WHOLE(blkio) WHOLE(gc_from) WHOLE(late) WHOLE(ended)
    WHOLE(ended_wait) WHOLE(noted) WHOLE(handed) WHOLE(ident)
    {"system", T_DOUBLE, offsetof(Thread, system), 0, NULL},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(Thread, weak), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};
#undef WHOLE
#undef OBJECT

static int Thread_traverse(Thread *self, visitproc visit, void *arg)
{
#define VISIT(name) Py_VISIT(self->name);
    EACH_OF_THREAD(VISIT)
#undef VISIT
    Py_VISIT(Py_TYPE((PyObject *)self));
    return 0;
}

static int Thread_clear(Thread *self)
{
#define CLEAR(name) Py_CLEAR(self->name);
    EACH_OF_THREAD(CLEAR)
#undef CLEAR
    return 0;
}

static void Thread_dealloc(Thread *self)
{
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    PyObject_GC_UnTrack(self);
    if (self->weak != NULL)
        PyObject_ClearWeakRefs((PyObject *)self);
    Thread_clear(self);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

static PyObject *Thread_new(PyTypeObject *type, PyObject *arguments, PyObject *named)
{
    (void)arguments;
    (void)named;
    Thread *self = (Thread *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
    if (self == NULL)
        return NULL;
    self->meters = own(Py_None);
    self->held = own(Py_None);
    self->schedstat = own(Py_None);
    self->stat = own(Py_None);
    self->why = own(Py_None);
    self->stack = PyList_New(0);
    self->voluntary = self->involuntary = -1; /* differ from any reading */
    if (self->stack == NULL) {
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

/* Field 2 of "123 456 7": the time that the thread stood ready without a core. */
static int second_number(const char *text, Py_ssize_t length, long long *value)
{
    long long found = 0;
    Py_ssize_t i = 0;
    int digits = 0;
    while (i < length && text[i] >= '0' && text[i] <= '9')
        i++;
    if (i > 0 && i < length && text[i] == ' ')
        for (i++; i < length && text[i] >= '0' && text[i] <= '9' && digits < 18; i++, digits++)
            found = found * 10 + (text[i] - '0');
    if (digits == 0 || i >= length || text[i] != ' ') {
        PyErr_SetString(PyExc_ValueError, "schedstat: expected three numbers");
        return -1;
    }
    *value = found;
    return 0;
}

/* From the file kept open, in place; where that does not work its own ``read`` does it, or says why not. */
static int read_wait(Thread *self, long long *value)
{
    char text[64];
    PyObject *file = self->schedstat, *found, *raw;
    int result = -1;
    if (file == NULL) {
        PyErr_SetString(PyExc_TypeError, "Thread.schedstat: expected a file");
        return -1;
    }
    Py_INCREF(file);
    found = PyObject_GetAttr(file, s_fd);
    if (found == NULL)
        PyErr_Clear();
    else {
        long fd = PyLong_AsLong(found);
        Py_DECREF(found);
        if (fd == -1 && PyErr_Occurred())
            PyErr_Clear();
        if (fd >= 0) {
            ssize_t length = pread((int)fd, text, sizeof text, 0);
            if (length >= 0) {
                result = second_number(text, length, value);
                goto done;
            }
        }
    }
    raw = PyObject_CallMethodObjArgs(file, s_read, NULL);
    if (raw != NULL) {
        char *bytes;
        Py_ssize_t length;
        if (PyBytes_AsStringAndSize(raw, &bytes, &length) == 0)
            result = second_number(bytes, length, value);
        Py_DECREF(raw);
    }
done:
    Py_DECREF(file);
    return result;
}

/* One reading at ``at`` (ns, UTC): Thread.advance of thread.py. -1 with an exception, before anything was changed. */
static int advance(Thread *self, long long at)
{
    PyObject *stack = self->stack;
    if (stack == NULL || !PyList_Check(stack)) {
        PyErr_SetString(PyExc_TypeError, "Thread.stack: expected a list");
        return -1;
    }
    long long before = self->at;
    Py_ssize_t depth = PyList_Size(stack);
    PyObject *item = depth > 0 ? PyList_GetItem(stack, depth - 1) : NULL; /* borrowed; owned below */
    if (item != NULL && !is_open(item)) {
        PyErr_SetString(PyExc_TypeError, "Thread.stack: expected spans of layerline._fast");
        return -1;
    }
    if (at - self->read_at >= 0 && at - self->read_at < DENSE_NS && at >= before) {
        long long spent = at - before;
        Open *top = (Open *)item;
        if (top != NULL && top->thread != Py_None) {
            Py_INCREF(item);
            int failed = add_piece(top, before, at, spent, 0);
            if (!failed)
                top->cpu += spent;
            Py_DECREF(item);
            if (failed)
                return -1;
        }
        self->at = at;
        self->cpu += spent;
        return 0;
    }
    struct rusage usage;
    long long cpu = now_ns(CLOCK_THREAD_CPUTIME_ID);
    if (getrusage(RUSAGE_THREAD, &usage) != 0) {
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    double system = (double)usage.ru_stime.tv_sec + (double)usage.ru_stime.tv_usec * 1e-6;
    long long wait = self->wait + self->late;
    if (usage.ru_nvcsw != self->voluntary || usage.ru_nivcsw != self->involuntary)
        if (read_wait(self, &wait) < 0) /* may run Python code: the stack is asked again */
            return -1;
    long long late = 0;
    if (wait != self->wait) {
        long long passed = now_ns(CLOCK_REALTIME) - at;
        if (passed >= DENSE_NS)
            late = wait - self->wait < passed ? wait - self->wait : passed;
    }
    stack = self->stack;
    depth = PyList_Size(stack);
    item = depth > 0 ? PyList_GetItem(stack, depth - 1) : NULL;
    if (item != NULL && is_open(item)) {
        Open *top = (Open *)item;
        if (top->thread == Py_None) {
            /* It ended on another thread meanwhile: when, nobody can say, so nobody is credited. */
            while (item != NULL && is_open(item) && ((Open *)item)->thread == Py_None) {
                if (PyList_SetSlice(stack, depth - 1, depth, NULL) < 0)
                    return -1;
                depth = PyList_Size(stack);
                item = depth > 0 ? PyList_GetItem(stack, depth - 1) : NULL;
            }
        } else {
            Py_INCREF(item);
            long long spent = cpu - self->cpu;
            if (spent < 0) { /* the clock alone said too much */
                spent = 0;
                cpu = self->cpu;
            }
            long long waited = wait - late - self->wait, blkio = self->blkio, delayed = 0;
            long long slept = usage.ru_nvcsw - self->voluntary, asleep = at - before - spent - waited;
            int failed = 0;
            if (slept != 0 && asleep >= SLEPT_NS && self->stat != Py_None) {
                PyObject *said = PyObject_CallMethodObjArgs((PyObject *)self, s_read_blkio, NULL);
                blkio = said != NULL ? PyLong_AsLongLong(said) : -1;
                failed = said == NULL || (blkio == -1 && PyErr_Occurred());
                Py_XDECREF(said);
                delayed = blkio - self->blkio < asleep ? blkio - self->blkio : asleep;
            }
            if (!failed && at > before)
                failed = add_piece(top, before, at, spent, waited) < 0;
            if (!failed && PyList_Size(top->pieces) > ROOM) {
                PyObject *fewer = PyObject_CallFunctionObjArgs(merged_function, top->pieces, NULL);
                if (fewer != NULL) {
                    PyObject *old = top->pieces;
                    top->pieces = fewer;
                    Py_XDECREF(old);
                } else
                    PyErr_Clear(); /* the next reading tries again */
            }
            if (failed) {
                Py_DECREF(item);
                return -1;
            }
            top->cpu += spent;
            top->wait += waited;
            top->system += system - self->system;
            if (self->voluntary >= 0) {
                top->major_faults += usage.ru_majflt - self->major_faults;
                top->blocks_read += usage.ru_inblock - self->blocks_read;
                top->blocks_written += usage.ru_oublock - self->blocks_written;
                top->involuntary += usage.ru_nivcsw - self->involuntary;
                top->voluntary += slept;
            }
            top->blkio += delayed;
            self->blkio = blkio;
            Py_DECREF(item);
        }
    }
    self->at = self->read_at = at;
    self->cpu = cpu;
    self->wait = wait - late;
    self->late = late;
    self->system = system;
    self->major_faults = usage.ru_majflt;
    self->blocks_read = usage.ru_inblock;
    self->blocks_written = usage.ru_oublock;
    self->voluntary = usage.ru_nvcsw;
    self->involuntary = usage.ru_nivcsw;
    return 0;
}

static PyObject *Thread_advance(Thread *self, PyObject *at)
{
    long long value = PyLong_AsLongLong(at);
    if ((value == -1 && PyErr_Occurred()) || advance(self, value) < 0)
        return NULL;
    return own(Py_None);
}

static PyMethodDef Thread_methods[] = {
    {"advance", (PyCFunction)Thread_advance, METH_O,
     "Take one reading at ``at`` (ns, UTC) and credit what passed since the last to the span on top."},
    {NULL, NULL, 0, NULL},
};
static PyType_Slot Thread_slots[] = {
    {Py_tp_doc, "A thread's last reading and the stack of its open spans: thread.Thread opens its files."},
    {Py_tp_new, Thread_new},
    {Py_tp_dealloc, Thread_dealloc},
    {Py_tp_traverse, Thread_traverse},
    {Py_tp_clear, Thread_clear},
    {Py_tp_members, Thread_members},
    {Py_tp_methods, Thread_methods},
    {0, NULL},
};
static PyType_Spec Thread_spec = {
    "layerline._fast.Thread", sizeof(Thread), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE, Thread_slots,
};

/* ---- Callers: whether the code that opens a span can be suspended while it is open (caller.py says why) */

enum { PLAIN, PASS, ENTERS, GENERATOR, COROUTINE }; /* as in caller.py */
#define CODES 1024
#define TO_HELPER 3 /* frames from the processors' on_start to start_as_current_span's; two more to its caller */

static struct { PyObject *code; int kind; } known_codes[CODES]; /* by address, with the code owned: its hash is dear */
static PyObject *classify_function, *getframe_function, *helper_code, *number_0, *number_helper, *number_caller;

static int kind_of(PyObject *code)
{
    size_t at = ((uintptr_t)code >> 4) % CODES;
    if (known_codes[at].code == code)
        return known_codes[at].kind;
    PyObject *said = PyObject_CallFunctionObjArgs(classify_function, code, NULL);
    if (said == NULL)
        return -1;
    int kind = (int)PyLong_AsLong(said);
    Py_DECREF(said);
    if (kind == -1 && PyErr_Occurred())
        return -1;
    PyObject *old = known_codes[at].code;
    known_codes[at].code = own(code);
    known_codes[at].kind = kind;
    Py_XDECREF(old);
    return kind;
}

/* The frame that many steps up, or the first. */
static PyObject *frame_at(PyObject *steps)
{
    PyObject *frame = PyObject_CallFunctionObjArgs(getframe_function, steps, NULL);
    if (frame == NULL && PyErr_ExceptionMatches(PyExc_ValueError)) {
        PyErr_Clear();
        frame = PyObject_CallFunctionObjArgs(getframe_function, number_0, NULL);
    }
    return frame;
}

/* 1: it can; 0: it cannot; -1 with an exception. */
static int leaves_halfway(void)
{
    PyObject *frame = frame_at(number_helper), *code;
    if (frame == NULL)
        return -1;
    code = (PyObject *)PyFrame_GetCode((PyFrameObject *)frame);
    Py_DECREF(frame);
    frame = frame_at(code == helper_code ? number_caller : number_0);
    Py_DECREF(code);
    int entered = 0; /* the frame before was a generator: this one must be the __enter__ that runs it */
    while (frame != NULL && frame != Py_None) {
        code = (PyObject *)PyFrame_GetCode((PyFrameObject *)frame);
        int kind = kind_of(code);
        Py_DECREF(code);
        int decided = kind < 0 ? -1 : (entered && kind != ENTERS) || kind == COROUTINE ? 1 : !entered && kind == PLAIN ? 0 : 2;
        if (decided != 2) {
            Py_DECREF(frame);
            return decided;
        }
        entered = kind == GENERATOR;
        PyObject *back = PyObject_GetAttr(frame, s_f_back);
        Py_DECREF(frame);
        frame = back;
    }
    if (frame == NULL)
        return -1;
    Py_DECREF(frame);
    return entered;
}

/* ---- Hooks: a span starts, a span ends (account.py) */

enum { N_TID, N_ACCOUNT, N_CPU, N_WAIT, N_SYSTEM, N_FAULTS, N_VOLUNTARY, N_INVOLUNTARY, N_READ, N_WRITTEN, N_GC, N_SLICES,
    N_BLKIO, N_NAMES };

typedef struct {
    PyObject_HEAD
    PyObject *account, *threads, *start_slowly, *end_slowly, *running_loop, *in_greenlet;
    PyObject *names[N_NAMES];
    long long at_once_ns, explicit_ns, long_ns, ahead_ns; /* ahead: of the clock, for tests */
} Hooks;

#define EACH_OF_HOOKS(DO) DO(account) DO(threads) DO(start_slowly) DO(end_slowly) DO(running_loop) DO(in_greenlet)

static int Hooks_traverse(Hooks *self, visitproc visit, void *arg)
{
#define VISIT(name) Py_VISIT(self->name);
    EACH_OF_HOOKS(VISIT)
#undef VISIT
    for (int i = 0; i < N_NAMES; i++)
        Py_VISIT(self->names[i]);
    Py_VISIT(Py_TYPE((PyObject *)self));
    return 0;
}

static int Hooks_clear(Hooks *self)
{
#define CLEAR(name) Py_CLEAR(self->name);
    EACH_OF_HOOKS(CLEAR)
#undef CLEAR
    for (int i = 0; i < N_NAMES; i++)
        Py_CLEAR(self->names[i]);
    return 0;
}

static void Hooks_dealloc(Hooks *self)
{
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    PyObject_GC_UnTrack(self);
    Hooks_clear(self);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

static PyObject *Hooks_new(PyTypeObject *type, PyObject *arguments, PyObject *named)
{
    PyObject *account, *threads, *start_slowly, *end_slowly, *running_loop, *in_greenlet, *names;
    long long at_once_ns, explicit_ns, long_ns;
    (void)named;
    if (!PyArg_ParseTuple(arguments, "OOOOOOO!LLL:Hooks", &account, &threads, &start_slowly, &end_slowly, &running_loop,
                          &in_greenlet, &PyTuple_Type, &names, &at_once_ns, &explicit_ns, &long_ns))
        return NULL;
    if (PyTuple_Size(names) != N_NAMES) {
        PyErr_Format(PyExc_ValueError, "Hooks: expected %d names of attributes, found %zd", (int)N_NAMES, PyTuple_Size(names));
        return NULL;
    }
    Hooks *self = (Hooks *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
    if (self == NULL)
        return NULL;
    self->account = own(account);
    self->threads = own(threads);
    self->start_slowly = own(start_slowly);
    self->end_slowly = own(end_slowly);
    self->running_loop = own(running_loop);
    self->in_greenlet = own(in_greenlet);
    for (int i = 0; i < N_NAMES; i++)
        self->names[i] = own(PyTuple_GetItem(names, i));
    self->at_once_ns = at_once_ns;
    self->explicit_ns = explicit_ns;
    self->long_ns = long_ns;
    return (PyObject *)self;
}

static PyMemberDef Hooks_members[] = {
    {"threads", T_OBJECT_EX, offsetof(Hooks, threads), 0, "The account's threading.local: another in a forked child."},
    {"at_once_ns", T_LONGLONG, offsetof(Hooks, at_once_ns), 0, NULL},
    {"long_ns", T_LONGLONG, offsetof(Hooks, long_ns), 0, NULL},
    {"ahead_ns", T_LONGLONG, offsetof(Hooks, ahead_ns), 0, "By how much the clock is ahead, for tests."},
    {NULL, 0, 0, 0, NULL},
};

/* Our own failure: the account deals with it. What is no Exception is the application's, and goes on. */
static PyObject *failed(PyObject *account, const char *where)
{
    PyObject *type, *value, *trace, *done;
    if (!PyErr_ExceptionMatches(PyExc_Exception))
        return NULL;
    PyErr_Fetch(&type, &value, &trace);
    PyErr_NormalizeException(&type, &value, &trace);
    if (trace != NULL && PyException_SetTraceback(value, trace) < 0)
        PyErr_Clear();
    PyObject *place = PyUnicode_FromString(where);
    done = place != NULL ? PyObject_CallMethodObjArgs(account, s_failed, place, value, NULL) : NULL;
    Py_XDECREF(place);
    Py_XDECREF(type);
    Py_XDECREF(value);
    Py_XDECREF(trace);
    return done;
}

/* This thread's account, or NULL: with an exception only if it is one of ours. */
static Thread *thread_here(Hooks *self)
{
    PyObject *found = PyObject_GetAttr(self->threads, s_thread);
    if (found == NULL) {
        if (PyErr_ExceptionMatches(PyExc_AttributeError))
            PyErr_Clear();
        return NULL;
    }
    if (!PyObject_TypeCheck(found, Thread_type)) {
        Py_DECREF(found);
        return NULL;
    }
    return (Thread *)found;
}

/* Whether this thread runs an event loop now: 1, 0, or -1 with an exception. */
static int in_loop(Hooks *self)
{
    PyObject *loop = PyObject_CallNoArgs(self->running_loop);
    if (loop == NULL)
        return -1;
    int result = loop != Py_None;
    Py_DECREF(loop);
    return result;
}

/* Whether this code runs in a greenlet: 1, 0, or -1 with an exception. */
static int in_greenlet(Hooks *self)
{
    PyObject *modules = PyImport_GetModuleDict(); /* borrowed */
    int there = modules != NULL ? PyDict_Contains(modules, s_greenlet) : 0;
    if (there <= 0)
        return there;
    PyObject *said = PyObject_CallNoArgs(self->in_greenlet);
    if (said == NULL)
        return -1;
    there = PyObject_IsTrue(said);
    Py_DECREF(said);
    return there;
}

/* Whether a span has no parent in this process: 1, 0, or -1 with an exception. A SpanContext is a tuple. */
static int enters(PyObject *span)
{
    PyObject *parent = PyObject_GetAttr(span, s_parent);
    if (parent == NULL)
        return -1;
    int result = 1;
    if (parent != Py_None) {
        PyObject *remote = PyTuple_Check(parent) ? PyTuple_GetItem(parent, 2) : NULL;
        if (remote == NULL && !PyErr_Occurred())
            PyErr_SetString(PyExc_TypeError, "SpanContext: expected a tuple");
        result = remote == NULL ? -1 : PyObject_IsTrue(remote);
    }
    Py_DECREF(parent);
    return result;
}

/* 1: done; 0: not a usual case, and nothing was changed; -1 with an exception. */
static int start_usual(Hooks *self, PyObject *span, Thread *thread)
{
    long long start, now = now_ns(CLOCK_REALTIME) + self->ahead_ns;
    if (number_of(span, s_start_time, &start) < 0)
        return -1;
    if (thread->held != Py_None || thread->schedstat == Py_None || thread->stack == NULL || !PyList_Check(thread->stack) ||
        PyList_Size(thread->stack) >= DEEPEST)
        return 0;
    int odd = in_loop(self);
    if (odd == 0)
        odd = in_greenlet(self);
    if (odd == 0)
        odd = leaves_halfway();
    if (odd != 0)
        return odd < 0 ? -1 : 0;
    if (now - start >= 0 && now - start <= self->at_once_ns)
        now = start;
    else if (thread->noted == start && start == thread->at)
        now = 0; /* the reading has been taken */
    else if (now - start > self->explicit_ns || start - now > self->explicit_ns)
        return 0;
    int entry = enters(span);
    if (entry < 0)
        return -1;
    if (now != 0 && advance(thread, now) < 0) {
        if (!PyErr_ExceptionMatches(PyExc_Exception))
            return -1;
        PyErr_Clear(); /* it fails again below account.py's hands, which know what to do */
        return 0;
    }
    Open *opened = new_open(Open_type, thread->tid, (PyObject *)thread, Py_None);
    if (opened == NULL)
        return -1;
    int result = -1;
    if (PyList_Append(thread->stack, (PyObject *)opened) < 0)
        goto done;
    if (PyObject_SetAttr(span, s_open, (PyObject *)opened) < 0)
        goto done;
    if (PyList_Size(thread->stack) == 1) {
        opened->began = thread->at;
        PyObject *watcher = PyObject_GetAttr(self->account, s_watcher);
        if (watcher == NULL)
            goto done;
        if (watcher != Py_None) {
            PyObject *idle = PyObject_GetAttr(watcher, s_idle), *woken = NULL;
            int asleep = idle != NULL ? PyObject_IsTrue(idle) : -1;
            Py_XDECREF(idle);
            if (asleep == 1)
                woken = PyObject_CallMethodObjArgs(watcher, s_wake, NULL);
            Py_XDECREF(woken);
            if (asleep < 0 || (asleep == 1 && woken == NULL)) {
                Py_DECREF(watcher);
                goto done;
            }
        }
        Py_DECREF(watcher);
    }
    if (entry) {
        PyObject *when = PyLong_FromLongLong(start), *said = NULL;
        if (when != NULL)
            said = PyObject_CallMethodObjArgs(self->account, s_entered, span, (PyObject *)opened, (PyObject *)thread, when, NULL);
        Py_XDECREF(when);
        Py_XDECREF(said);
        if (said == NULL)
            goto done;
    }
    result = 1;
done:
    Py_DECREF(opened);
    return result;
}

static PyObject *Hooks_on_start(Hooks *self, PyObject *const *arguments, Py_ssize_t count, PyObject *names)
{
    Py_ssize_t all = count + (names != NULL ? PyTuple_Size(names) : 0);
    if (all < 1 || all > 2 || count < 1) {
        PyErr_SetString(PyExc_TypeError, "on_start: expected span and parent_context");
        return NULL;
    }
    PyObject *span = arguments[0], *context = all == 2 ? arguments[1] : Py_None;
    int done = 0;
    Thread *thread = thread_here(self);
    if (thread != NULL) {
        done = start_usual(self, span, thread);
        Py_DECREF(thread);
    } else if (PyErr_Occurred())
        done = -1;
    if (done == 1)
        return own(Py_None);
    if (done == 0)
        return PyObject_CallFunctionObjArgs(self->start_slowly, span, context, NULL);
    return failed(self->account, "account.on_start");
}

static int put_number(PyObject *attributes, PyObject *name, long long value)
{
    PyObject *number = PyLong_FromLongLong(value);
    int result = number != NULL ? PyDict_SetItem(attributes, name, number) : -1;
    Py_XDECREF(number);
    return result;
}

/* A span's slices as exported: thread.sliced. */
static PyObject *sliced(PyObject *pieces, long long start, long long end)
{
    PyObject *kept = own(pieces);
    if (PyList_Size(kept) > 16 * NUMBERS) {
        PyObject *fewer = PyObject_CallFunctionObjArgs(merged_function, kept, NULL);
        Py_DECREF(kept);
        if (fewer == NULL)
            return NULL;
        kept = fewer;
    }
    Py_ssize_t size = PyList_Size(kept);
    PyObject *out = size >= 0 ? PyTuple_New(size -= size % NUMBERS) : NULL;
    for (Py_ssize_t i = 0; out != NULL && i < size; i += NUMBERS) {
        long long numbers[NUMBERS];
        for (int j = 0; j < NUMBERS; j++) {
            numbers[j] = PyLong_AsLongLong(PyList_GetItem(kept, i + j));
            if (numbers[j] == -1 && PyErr_Occurred())
                goto failed;
        }
        long long first = numbers[0] > start ? numbers[0] : start, last = numbers[1] < end ? numbers[1] : end;
        if (first > end)
            first = end;
        numbers[0] = first - start;
        numbers[1] = last > first ? last - first : 0;
        for (int j = 0; j < NUMBERS; j++) {
            PyObject *number = PyLong_FromLongLong(numbers[j]);
            if (number == NULL || PyTuple_SetItem(out, i + j, number) < 0)
                goto failed;
        }
    }
    Py_DECREF(kept);
    return out;
failed:
    Py_DECREF(kept);
    Py_DECREF(out);
    return NULL;
}

/* As start_usual. */
static int end_usual(Hooks *self, PyObject *span, Open *opened)
{
    long long start, end, now = now_ns(CLOCK_REALTIME) + self->ahead_ns;
    if (number_of(span, s_start_time, &start) < 0 || number_of(span, s_end_time, &end) < 0)
        return -1;
    int at_once = now - end >= 0 && now - end <= self->at_once_ns;
    if (opened->reason != Py_None || opened->born != forks || opened->task != Py_None ||
        opened->thread == NULL || !PyObject_TypeCheck(opened->thread, Thread_type) ||
        (!at_once && (now - end > self->explicit_ns || end - now > self->explicit_ns)))
        return 0;
    Thread *thread = thread_here(self);
    if (thread == NULL)
        return PyErr_Occurred() ? -1 : 0;
    PyObject *bounded = NULL, *attributes = NULL;
    int result = -1, odd = (PyObject *)thread != opened->thread ? 1 : in_loop(self);
    Py_ssize_t depth = 0;
    if (odd == 0) {
        depth = thread->stack != NULL && PyList_Check(thread->stack) ? PyList_Size(thread->stack) : 0;
        odd = depth == 0 || PyList_GetItem(thread->stack, depth - 1) != (PyObject *)opened;
    }
    if (odd != 0) {
        result = odd < 0 ? -1 : 0;
        goto done;
    }
    bounded = PyObject_GetAttr(span, s_attributes);
    attributes = bounded != NULL ? PyObject_GetAttr(bounded, s_dict) : NULL;
    if (attributes == NULL || !PyDict_CheckExact(attributes)) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_TypeError, "BoundedAttributes._dict: expected a dict");
        goto done;
    }
    if (advance(thread, at_once ? end : now) < 0) {
        if (PyErr_ExceptionMatches(PyExc_Exception)) {
            PyErr_Clear(); /* account.py deals with it */
            result = 0;
        }
        goto done;
    }
    depth = PyList_Size(thread->stack);
    if (depth == 0 || PyList_GetItem(thread->stack, depth - 1) != (PyObject *)opened) {
        result = 0; /* advance found spans that ended elsewhere */
        goto done;
    }
    if (PyList_SetSlice(thread->stack, depth - 1, depth, NULL) < 0)
        goto done;
    PyObject *old = opened->thread;
    opened->thread = own(Py_None);
    Py_XDECREF(old);
    if (put_number(attributes, self->names[N_TID], opened->tid) < 0)
        goto done;
    if (opened->entry) {
        PyObject *when = PyLong_FromLongLong(end), *said = NULL;
        if (when != NULL)
            said = PyObject_CallMethodObjArgs(self->account, s_ending_entry, (PyObject *)opened, attributes, (PyObject *)thread,
                                              when, NULL);
        Py_XDECREF(when);
        Py_XDECREF(said);
        if (said == NULL)
            goto done;
    }
    PyObject *slices = sliced(opened->pieces, start, end);
    if (slices == NULL)
        goto done;
    int wrong = PyDict_SetItem(attributes, self->names[N_ACCOUNT], s_text_thread) < 0 ||
        put_number(attributes, self->names[N_CPU], opened->cpu) < 0 ||
        put_number(attributes, self->names[N_WAIT], opened->wait) < 0 ||
        put_number(attributes, self->names[N_SYSTEM], (long long)(opened->system * 1e9 + 0.5)) < 0 ||
        put_number(attributes, self->names[N_FAULTS], opened->major_faults) < 0 ||
        put_number(attributes, self->names[N_VOLUNTARY], opened->voluntary) < 0 ||
        put_number(attributes, self->names[N_INVOLUNTARY], opened->involuntary) < 0 ||
        put_number(attributes, self->names[N_READ], opened->blocks_read) < 0 ||
        put_number(attributes, self->names[N_WRITTEN], opened->blocks_written) < 0 ||
        put_number(attributes, self->names[N_GC], opened->gc) < 0 ||
        PyDict_SetItem(attributes, self->names[N_SLICES], slices) < 0;
    Py_DECREF(slices);
    if (wrong)
        goto done;
    if (thread->stat != Py_None) {
        PyObject *delays = PyObject_GetAttr(self->account, s_delays);
        int kept = delays != NULL ? PyObject_IsTrue(delays) : -1;
        Py_XDECREF(delays);
        if (kept == 1 && end - start < self->long_ns)
            kept = enters(span);
        if (kept < 0 || (kept == 1 && put_number(attributes, self->names[N_BLKIO], opened->blkio) < 0))
            goto done;
    }
    if (opened->queued != Py_None || opened->seen != Py_None || opened->meters != Py_None) {
        PyObject *when = PyLong_FromLongLong(at_once ? end : now), *said = NULL;
        if (when != NULL)
            said = PyObject_CallMethodObjArgs(self->account, s_ending_more, (PyObject *)opened, attributes, when, NULL);
        Py_XDECREF(when);
        Py_XDECREF(said);
        if (said == NULL)
            goto done;
    }
    result = 1;
done:
    Py_XDECREF(bounded);
    Py_XDECREF(attributes);
    Py_DECREF(thread);
    return result;
}

static PyObject *Hooks_on_ending(Hooks *self, PyObject *span)
{
    PyObject *opened = PyObject_GetAttr(span, s_open);
    if (opened == NULL) {
        if (!PyErr_ExceptionMatches(PyExc_AttributeError))
            return failed(self->account, "account.on_ending");
        PyErr_Clear(); /* it started before we came */
        return own(Py_None);
    }
    int done = is_open(opened) ? end_usual(self, span, (Open *)opened) : 0;
    Py_DECREF(opened);
    if (done == 1)
        return own(Py_None);
    if (done == 0)
        return PyObject_CallFunctionObjArgs(self->end_slowly, span, NULL);
    return failed(self->account, "account.on_ending");
}

static PyMethodDef Hooks_methods[] = {
    {"on_start", (PyCFunction)(void (*)(void))Hooks_on_start, METH_FASTCALL | METH_KEYWORDS, "A span starts on this thread."},
    {"on_ending", (PyCFunction)Hooks_on_ending, METH_O, "A span ends on this thread."},
    {NULL, NULL, 0, NULL},
};
static PyType_Slot Hooks_slots[] = {
    {Py_tp_doc, "Hooks(account, threads, start_slowly, end_slowly, running_loop, in_greenlet, names, at_once_ns, explicit_ns, "
                "long_ns)"},
    {Py_tp_new, Hooks_new},
    {Py_tp_dealloc, Hooks_dealloc},
    {Py_tp_traverse, Hooks_traverse},
    {Py_tp_clear, Hooks_clear},
    {Py_tp_members, Hooks_members},
    {Py_tp_methods, Hooks_methods},
    {0, NULL},
};
static PyType_Spec Hooks_spec = {
    "layerline._fast.Hooks", sizeof(Hooks), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, Hooks_slots,
};

/* ---- Encoder: a finished span as OTLP bytes (encode.py; trace.proto, common.proto) */

typedef struct {
    char *data;
    size_t size, room;
    int failed; /* no memory */
    char first[2048];
} Buffer;

static void begin(Buffer *buffer)
{
    buffer->data = buffer->first;
    buffer->size = 0;
    buffer->room = sizeof buffer->first;
    buffer->failed = 0;
}

static void finish(Buffer *buffer)
{
    if (buffer->data != buffer->first)
        free(buffer->data);
}

static void put(Buffer *buffer, const void *bytes, size_t count)
{
    if (buffer->failed)
        return;
    if (count > buffer->room - buffer->size) {
        size_t room = buffer->room;
        while (room - buffer->size < count) {
            if (room > SIZE_MAX / 2) {
                buffer->failed = 1;
                return;
            }
            room *= 2;
        }
        char *data = buffer->data == buffer->first ? malloc(room) : realloc(buffer->data, room);
        if (data == NULL) {
            buffer->failed = 1;
            return;
        }
        if (buffer->data == buffer->first)
            memcpy(data, buffer->first, buffer->size);
        buffer->data = data;
        buffer->room = room;
    }
    if (count > 0)
        memcpy(buffer->data + buffer->size, bytes, count);
    buffer->size += count;
}

static size_t varint_size(uint64_t number)
{
    size_t size = 1;
    while (number > 127) {
        number >>= 7;
        size++;
    }
    return size;
}

/* A tag of one byte, and a number of seven bits a byte. */
static void put_varint(Buffer *buffer, unsigned char tag, uint64_t number)
{
    unsigned char bytes[11] = {tag};
    size_t size = 1;
    while (number > 127) {
        bytes[size++] = (unsigned char)(number | 128);
        number >>= 7;
    }
    bytes[size++] = (unsigned char)number;
    put(buffer, bytes, size);
}

static void put_fixed(Buffer *buffer, unsigned char tag, uint64_t number, int size, int big)
{
    unsigned char bytes[9] = {tag};
    for (int i = 0; i < size; i++)
        bytes[1 + i] = (unsigned char)(number >> 8 * (big ? size - 1 - i : i));
    put(buffer, bytes, (size_t)size + 1);
}

/* What follows is 1 where a value is of a kind that is encoded here, 0 where it is not (encode.py does it), -1 with an
 * exception. A text is read in place: Python keeps its UTF-8. */

static int text_of(PyObject *text, const char **bytes, Py_ssize_t *length)
{
    if (!PyUnicode_CheckExact(text))
        return 0;
    *bytes = PyUnicode_AsUTF8AndSize(text, length);
    if (*bytes != NULL)
        return 1;
    if (!PyErr_ExceptionMatches(PyExc_UnicodeError))
        return -1;
    PyErr_Clear(); /* half of a surrogate pair */
    return 0;
}

/* The size of an AnyValue. */
static int value_size(PyObject *value, int nested, size_t *size)
{
    if (PyUnicode_CheckExact(value)) {
        const char *bytes;
        Py_ssize_t length;
        int there = text_of(value, &bytes, &length);
        if (there == 1)
            *size = 1 + varint_size((uint64_t)length) + (size_t)length;
        return there;
    }
    if (value == Py_True || value == Py_False) {
        *size = 2;
        return 1;
    }
    if (PyLong_CheckExact(value)) {
        int beyond;
        long long number = PyLong_AsLongLongAndOverflow(value, &beyond);
        if (beyond != 0)
            return 0;
        *size = 1 + varint_size((uint64_t)number);
        return 1;
    }
    if (PyFloat_CheckExact(value)) {
        *size = 9;
        return 1;
    }
    if (!nested && PyTuple_CheckExact(value)) {
        size_t all = 0, one;
        Py_ssize_t count = PyTuple_Size(value);
        for (Py_ssize_t i = 0; i < count; i++) {
            int there = value_size(PyTuple_GetItem(value, i), 1, &one);
            if (there != 1)
                return there;
            all += 1 + varint_size(one) + one;
        }
        *size = 1 + varint_size(all) + all;
        return 1;
    }
    return 0;
}

/* An AnyValue whose size is known: 1 text, 2 truth, 3 whole number, 4 real number, 5 list (of which 1 is an AnyValue). */
static void put_value(Buffer *buffer, PyObject *value, size_t size)
{
    if (PyUnicode_CheckExact(value)) {
        Py_ssize_t length = 0;
        const char *bytes = PyUnicode_AsUTF8AndSize(value, &length); /* it worked before */
        put_varint(buffer, 0x0a, (uint64_t)length);
        put(buffer, bytes, (size_t)length);
    } else if (value == Py_True || value == Py_False)
        put_varint(buffer, 0x10, value == Py_True);
    else if (PyLong_CheckExact(value))
        put_varint(buffer, 0x18, (uint64_t)PyLong_AsLongLong(value));
    else if (PyFloat_CheckExact(value)) {
        double number = PyFloat_AsDouble(value);
        uint64_t bits;
        memcpy(&bits, &number, sizeof bits);
        put_fixed(buffer, 0x21, bits, 8, 0);
    } else {
        size_t all = size - 1, one = 0;
        while (1 + varint_size(all) + all > size)
            all--;
        put_varint(buffer, 0x2a, all);
        Py_ssize_t count = PyTuple_Size(value);
        for (Py_ssize_t i = 0; i < count; i++) {
            PyObject *each = PyTuple_GetItem(value, i);
            value_size(each, 1, &one);
            put_varint(buffer, 0x0a, one);
            put_value(buffer, each, one);
        }
    }
}

/* A KeyValue: 1 the key, 2 the value. */
static int put_attribute(Buffer *buffer, unsigned char tag, PyObject *name, PyObject *value)
{
    const char *key;
    Py_ssize_t length;
    size_t size;
    int there = text_of(name, &key, &length);
    if (there == 1)
        there = value_size(value, 0, &size);
    if (there != 1)
        return there;
    put_varint(buffer, tag, 1 + varint_size((uint64_t)length) + (size_t)length + 1 + varint_size(size) + size);
    put_varint(buffer, 0x0a, (uint64_t)length);
    put(buffer, key, (size_t)length);
    put_varint(buffer, 0x12, size);
    put_value(buffer, value, size);
    return 1;
}

#define HEADS 8
#define KINDS 5

typedef struct {
    PyObject_HEAD
    PyObject *slow, *masks, *find_mask, *trace_state, *unset, *no_status;
    PyObject *kinds[KINDS];
    struct { PyObject *resource, *scope, *head; } heads[HEADS]; /* owned, so that an address stays its own */
    int next_head;
} Encoder;

#define EACH_OF_ENCODER(DO) DO(slow) DO(masks) DO(find_mask) DO(trace_state) DO(unset) DO(no_status)

static int Encoder_traverse(Encoder *self, visitproc visit, void *arg)
{
#define VISIT(name) Py_VISIT(self->name);
    EACH_OF_ENCODER(VISIT)
#undef VISIT
    for (int i = 0; i < KINDS; i++)
        Py_VISIT(self->kinds[i]);
    for (int i = 0; i < HEADS; i++) {
        Py_VISIT(self->heads[i].resource);
        Py_VISIT(self->heads[i].scope);
        Py_VISIT(self->heads[i].head);
    }
    Py_VISIT(Py_TYPE((PyObject *)self));
    return 0;
}

static int Encoder_clear(Encoder *self)
{
#define CLEAR(name) Py_CLEAR(self->name);
    EACH_OF_ENCODER(CLEAR)
#undef CLEAR
    for (int i = 0; i < KINDS; i++)
        Py_CLEAR(self->kinds[i]);
    for (int i = 0; i < HEADS; i++) {
        Py_CLEAR(self->heads[i].resource);
        Py_CLEAR(self->heads[i].scope);
        Py_CLEAR(self->heads[i].head);
    }
    return 0;
}

static void Encoder_dealloc(Encoder *self)
{
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    PyObject_GC_UnTrack(self);
    Encoder_clear(self);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

static PyObject *Encoder_new(PyTypeObject *type, PyObject *arguments, PyObject *named)
{
    PyObject *slow, *masks, *find_mask, *trace_state, *unset, *kinds;
    (void)named;
    if (!PyArg_ParseTuple(arguments, "OO!OOOO!:Encoder", &slow, &PyDict_Type, &masks, &find_mask, &trace_state, &unset,
                          &PyTuple_Type, &kinds))
        return NULL;
    if (PyTuple_Size(kinds) != KINDS) {
        PyErr_Format(PyExc_ValueError, "Encoder: expected %d kinds of spans, found %zd", KINDS, PyTuple_Size(kinds));
        return NULL;
    }
    Encoder *self = (Encoder *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
    if (self == NULL)
        return NULL;
    self->slow = own(slow);
    self->masks = own(masks);
    self->find_mask = own(find_mask);
    self->trace_state = own(trace_state);
    self->unset = own(unset);
    self->no_status = own(Py_None);
    for (int i = 0; i < KINDS; i++)
        self->kinds[i] = own(PyTuple_GetItem(kinds, i));
    return (PyObject *)self;
}

/* What precedes a span's group in a request: a new reference, or NULL with an exception. */
static PyObject *head_of(Encoder *self, PyObject *span)
{
    PyObject *resource = PyObject_GetAttr(span, s_resource), *scope = NULL, *head = NULL;
    if (resource != NULL)
        scope = PyObject_GetAttr(span, s_scope);
    if (scope == NULL)
        goto done;
    for (int i = 0; i < HEADS; i++)
        if (self->heads[i].resource == resource && self->heads[i].scope == scope) {
            head = own(self->heads[i].head);
            goto done;
        }
    head = PyObject_CallMethodObjArgs(self->slow, s_head, span, NULL);
    if (head != NULL) {
        int at = self->next_head;
        self->next_head = (at + 1) % HEADS;
        PyObject *old[] = {self->heads[at].resource, self->heads[at].scope, self->heads[at].head};
        self->heads[at].resource = own(resource);
        self->heads[at].scope = own(scope);
        self->heads[at].head = own(head);
        for (int i = 0; i < 3; i++)
            Py_XDECREF(old[i]);
    }
done:
    Py_XDECREF(resource);
    Py_XDECREF(scope);
    return head;
}

/* The dict in a BoundedAttributes, or the dict itself; NULL without an exception where it is something else. */
static PyObject *dict_of(PyObject *attributes)
{
    if (PyDict_CheckExact(attributes))
        return own(attributes);
    PyObject *plain = PyObject_GetAttr(attributes, s_dict);
    if (plain == NULL) {
        if (PyErr_ExceptionMatches(PyExc_AttributeError))
            PyErr_Clear();
        return NULL;
    }
    if (!PyDict_CheckExact(plain))
        Py_CLEAR(plain);
    return plain;
}

/* What was dropped for want of room; 0 where nobody says. */
static int dropped_of(PyObject *object, long long *value)
{
    *value = 0;
    if (object == Py_None || PyDict_CheckExact(object) || PyTuple_CheckExact(object))
        return 0;
    if (number_of(object, s_dropped, value) == 0)
        return 0;
    if (!PyErr_ExceptionMatches(PyExc_AttributeError))
        return -1;
    PyErr_Clear();
    *value = 0;
    return 0;
}

/* Its attributes, each less what must not leave: field 9 of a span. */
static int put_attributes(Encoder *self, Buffer *buffer, PyObject *attributes)
{
    PyObject *plain = dict_of(attributes), *name, *value;
    Py_ssize_t at = 0;
    if (plain == NULL)
        return PyErr_Occurred() ? -1 : attributes == Py_None;
    int there = 1;
    while (there == 1 && PyDict_Next(plain, &at, &name, &value)) {
        PyObject *mask;
        if (!PyUnicode_CheckExact(name)) {
            there = 0;
            break;
        }
        mask = PyDict_GetItemWithError(self->masks, name);
        if (mask == Py_None) {
            there = put_attribute(buffer, 0x4a, name, value);
            continue;
        }
        if (mask == NULL && PyErr_Occurred()) {
            there = -1;
            break;
        }
        Py_INCREF(name);
        Py_INCREF(value);
        mask = mask != NULL ? own(mask) : PyObject_CallFunctionObjArgs(self->find_mask, name, NULL);
        PyObject *masked = mask == NULL ? NULL : mask == Py_None ? own(value) : PyObject_CallFunctionObjArgs(mask, value, NULL);
        if (masked == NULL)
            there = -1;
        else if (masked != Py_None || mask == Py_None)
            there = put_attribute(buffer, 0x4a, name, masked);
        Py_XDECREF(masked);
        Py_XDECREF(mask);
        Py_DECREF(name);
        Py_DECREF(value);
    }
    Py_DECREF(plain);
    return there;
}

/* One event: 1 time, 2 name, 3 attributes, 4 how many were dropped. */
static int put_event(Buffer *outer, PyObject *event)
{
    PyObject *name = PyObject_GetAttr(event, s_name), *attributes = NULL, *plain = NULL, *key, *value;
    Buffer buffer;
    int there = -1;
    long long at, dropped;
    Py_ssize_t length, next = 0;
    const char *text;
    begin(&buffer);
    if (name == NULL || number_of(event, s_timestamp, &at) < 0)
        goto done;
    attributes = PyObject_GetAttr(event, s_attributes);
    if (attributes == NULL || dropped_of(attributes, &dropped) < 0)
        goto done;
    there = text_of(name, &text, &length);
    if (there != 1)
        goto done;
    if (at != 0)
        put_fixed(&buffer, 0x09, (uint64_t)at, 8, 0);
    if (length > 0) {
        put_varint(&buffer, 0x12, (uint64_t)length);
        put(&buffer, text, (size_t)length);
    }
    plain = attributes != Py_None ? dict_of(attributes) : NULL;
    if (plain == NULL && attributes != Py_None)
        there = PyErr_Occurred() ? -1 : 0;
    while (there == 1 && plain != NULL && PyDict_Next(plain, &next, &key, &value))
        there = put_attribute(&buffer, 0x1a, key, value);
    if (dropped != 0)
        put_varint(&buffer, 0x20, (uint64_t)dropped);
    if (buffer.failed) {
        PyErr_NoMemory();
        there = -1;
    }
    if (there == 1) {
        put_varint(outer, 0x5a, buffer.size);
        put(outer, buffer.data, buffer.size);
    }
done:
    finish(&buffer);
    Py_XDECREF(name);
    Py_XDECREF(attributes);
    Py_XDECREF(plain);
    return there;
}

/* The list in a BoundedList, or what stands in its place. */
static PyObject *list_of(PyObject *span, PyObject *name)
{
    PyObject *outer = PyObject_GetAttr(span, name);
    if (outer == NULL || PyTuple_CheckExact(outer))
        return outer;
    PyObject *inner = PyObject_GetAttr(outer, s_dq);
    if (inner == NULL && PyErr_ExceptionMatches(PyExc_AttributeError)) {
        PyErr_Clear();
        return outer;
    }
    Py_DECREF(outer);
    return inner;
}

/* Its events. Where one had to be dropped, and where there are links, encode.py does all. */
static int put_events(Buffer *buffer, PyObject *span)
{
    int there = -1;
    PyObject *events = list_of(span, s_events), *links = NULL;
    Py_ssize_t count = events != NULL ? PyObject_Size(events) : -1, linked = -1;
    if (count >= 0) {
        links = list_of(span, s_links);
        linked = links != NULL ? PyObject_Size(links) : -1;
    }
    if (linked >= 0)
        there = linked == 0;
    if (there == 1 && count > 0) {
        PyObject *outer = PyObject_GetAttr(span, s_events), *event;
        long long dropped = 0;
        PyObject *each = outer != NULL && dropped_of(outer, &dropped) == 0 ? PyObject_GetIter(outer) : NULL;
        there = each == NULL ? -1 : dropped == 0;
        while (there == 1 && (event = PyIter_Next(each)) != NULL) {
            there = put_event(buffer, event);
            Py_DECREF(event);
        }
        if (PyErr_Occurred())
            there = -1;
        Py_XDECREF(each);
        Py_XDECREF(outer);
    }
    Py_XDECREF(events);
    Py_XDECREF(links);
    return there;
}

/* A status: 2 what is said, 3 the code. Field 15. */
static int put_status(Encoder *self, Buffer *buffer, PyObject *span)
{
    PyObject *status = PyObject_GetAttr(span, s_status), *code = NULL, *said = NULL;
    int there = -1;
    if (status == NULL)
        return -1;
    if (status == self->no_status) { /* spans share the one that they begin with */
        Py_DECREF(status);
        put(buffer, "\x7a\x00", 2);
        return 1;
    }
    code = PyObject_GetAttr(status, s_status_code);
    if (code == NULL)
        goto done;
    if (code == self->unset) {
        PyObject *old = self->no_status;
        self->no_status = own(status);
        Py_DECREF(old);
        put(buffer, "\x7a\x00", 2);
        there = 1;
        goto done;
    }
    long long number;
    const char *text = "";
    Py_ssize_t length = 0;
    said = PyObject_GetAttr(status, s_description);
    if (said == NULL || number_of(code, s_value, &number) < 0)
        goto done;
    there = said == Py_None ? 1 : text_of(said, &text, &length);
    if (there == 1) {
        size_t size = (length > 0 ? 1 + varint_size((uint64_t)length) + (size_t)length : 0) +
            (number != 0 ? 1 + varint_size((uint64_t)number) : 0);
        put_varint(buffer, 0x7a, size);
        if (length > 0) {
            put_varint(buffer, 0x12, (uint64_t)length);
            put(buffer, text, (size_t)length);
        }
        if (number != 0)
            put_varint(buffer, 0x18, (uint64_t)number);
    }
done:
    Py_DECREF(status);
    Py_XDECREF(code);
    Py_XDECREF(said);
    return there;
}

/* An id's 8 or 16 bytes, the highest first: 1; 0 where it is no such number; -1 with an exception. */
static int id_of(PyObject *id, int size, unsigned char *bytes)
{
    static PyObject *half;
    uint64_t parts[2] = {0, 0};
    if (id == NULL || !PyLong_Check(id))
        return id == NULL ? -1 : 0;
    if (size == 16) {
        if (half == NULL && (half = PyLong_FromLong(64)) == NULL)
            return -1;
        PyObject *shifted = PyNumber_Rshift(id, half);
        if (shifted == NULL)
            return -1;
        parts[0] = PyLong_AsUnsignedLongLong(shifted);
        Py_DECREF(shifted);
        parts[1] = PyLong_AsUnsignedLongLongMask(id);
    } else
        parts[1] = PyLong_AsUnsignedLongLong(id);
    if (PyErr_Occurred()) {
        if (!PyErr_ExceptionMatches(PyExc_OverflowError))
            return -1;
        PyErr_Clear();
        return 0;
    }
    for (int i = 0; i < size; i++)
        bytes[i] = (unsigned char)(parts[(16 - size + i) / 8] >> 8 * (7 - i % 8));
    return 1;
}

/* A field that is an id; 0 where it is no such number. */
static int put_id(Buffer *buffer, unsigned char tag, PyObject *id, int size)
{
    unsigned char bytes[16];
    int there = id_of(id, size, bytes);
    if (there == 1) {
        put_varint(buffer, tag, (uint64_t)size);
        put(buffer, bytes, (size_t)size);
    }
    return there;
}

/* Name (5), kind (6), times (7, 8), ids (1, 2), parent (4), flags (16), in the order of encode.py. */
static int put_rest(Encoder *self, Buffer *buffer, PyObject *span, PyObject *context)
{
    PyObject *name = PyObject_GetAttr(span, s_name), *kind = NULL, *parent = NULL;
    long long start, end;
    const char *text;
    Py_ssize_t length;
    int there = -1, role = 0;
    if (name == NULL || (kind = PyObject_GetAttr(span, s_kind)) == NULL || (parent = PyObject_GetAttr(span, s_parent)) == NULL)
        goto done;
    while (role < KINDS && self->kinds[role] != kind)
        role++;
    there = role == KINDS || (parent != Py_None && !PyTuple_Check(parent)) ? 0 : text_of(name, &text, &length);
    if (there != 1)
        goto done;
    there = -1;
    if (number_of(span, s_start_time, &start) < 0 || number_of(span, s_end_time, &end) < 0)
        goto done;
    if (length > 0) {
        put_varint(buffer, 0x2a, (uint64_t)length);
        put(buffer, text, (size_t)length);
    }
    put_varint(buffer, 0x30, (uint64_t)role + 1);
    put_fixed(buffer, 0x39, (uint64_t)start, 8, 0);
    put_fixed(buffer, 0x41, (uint64_t)end, 8, 0);
    there = put_id(buffer, 0x0a, PyTuple_GetItem(context, 0), 16);
    if (there == 1)
        there = put_id(buffer, 0x12, PyTuple_GetItem(context, 1), 8);
    uint64_t flags = 0x100; /* SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK */
    if (there == 1 && parent != Py_None) {
        PyObject *remote = PyTuple_GetItem(parent, 2);
        int is_remote = remote != NULL ? PyObject_IsTrue(remote) : -1;
        there = is_remote < 0 ? -1 : put_id(buffer, 0x22, PyTuple_GetItem(parent, 1), 8);
        if (is_remote == 1)
            flags |= 0x200; /* SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK */
    }
    if (there == 1) {
        unsigned char tag[] = {0x85, 0x01, (unsigned char)flags, (unsigned char)(flags >> 8), 0, 0}; /* fixed32 */
        put(buffer, tag, sizeof tag);
    }
done:
    Py_XDECREF(name);
    Py_XDECREF(kind);
    Py_XDECREF(parent);
    return there;
}

/* (head, bytes): a new reference; NULL without an exception where encode.py has to do it. */
static PyObject *encoded(Encoder *self, PyObject *span)
{
    PyObject *head = NULL, *result = NULL, *body = NULL, *attributes = NULL;
    PyObject *context = PyObject_GetAttr(span, s_context);
    Buffer buffer;
    long long dropped;
    int there = -1;
    begin(&buffer);
    if (context == NULL)
        goto done;
    there = PyTuple_Check(context) && PyTuple_Size(context) >= 5;
    if (there == 1 && PyTuple_GetItem(context, 4) != self->trace_state) {
        Py_ssize_t entries = PyObject_Size(PyTuple_GetItem(context, 4));
        there = entries < 0 ? -1 : entries == 0;
    }
    if (there != 1)
        goto done;
    there = -1;
    if ((head = head_of(self, span)) == NULL || (attributes = PyObject_GetAttr(span, s_attributes)) == NULL ||
        dropped_of(attributes, &dropped) < 0)
        goto done;
    there = put_attributes(self, &buffer, attributes);
    if (there == 1)
        there = put_events(&buffer, span);
    if (there == 1)
        there = put_rest(self, &buffer, span, context);
    if (there == 1)
        there = put_status(self, &buffer, span);
    if (there == 1 && dropped != 0)
        put_varint(&buffer, 0x50, (uint64_t)dropped);
    if (there != 1)
        goto done;
    if (buffer.failed) {
        PyErr_NoMemory();
        goto done;
    }
    body = PyBytes_FromStringAndSize(buffer.data, (Py_ssize_t)buffer.size);
    if (body != NULL)
        result = PyTuple_Pack(2, head, body);
done:
    finish(&buffer);
    Py_XDECREF(context);
    Py_XDECREF(head);
    Py_XDECREF(attributes);
    Py_XDECREF(body);
    return result;
}

static PyObject *Encoder_encode(Encoder *self, PyObject *span)
{
    PyObject *result = encoded(self, span);
    if (result != NULL)
        return result;
    if (PyErr_Occurred()) { /* encode.py tries, and says what is wrong */
        if (!PyErr_ExceptionMatches(PyExc_Exception))
            return NULL;
        PyErr_Clear();
    }
    return PyObject_CallMethodObjArgs(self->slow, s_slow, span, NULL);
}

static PyMethodDef Encoder_methods[] = {
    {"encode", (PyCFunction)Encoder_encode, METH_O, "A span as it is, less what must not leave the app: (head, bytes)."},
    {NULL, NULL, 0, NULL},
};
static PyType_Slot Encoder_slots[] = {
    {Py_tp_doc, "Encoder(slow, masks, find_mask, trace_state, unset, kinds)"},
    {Py_tp_new, Encoder_new},
    {Py_tp_dealloc, Encoder_dealloc},
    {Py_tp_traverse, Encoder_traverse},
    {Py_tp_clear, Encoder_clear},
    {Py_tp_methods, Encoder_methods},
    {0, NULL},
};
static PyType_Spec Encoder_spec = {
    "layerline._fast.Encoder", sizeof(Encoder), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, Encoder_slots,
};

/* ---- Queue: a finished span is put into the SDK's queue (export.py, Batches.on_end; BatchProcessor.emit) */

typedef struct {
    PyObject_HEAD
    PyObject *encoder, *batches, *slow, *reason;
    long long most, batch;
} Queue;

static int Queue_traverse(Queue *self, visitproc visit, void *arg)
{
    Py_VISIT(self->encoder);
    Py_VISIT(self->batches);
    Py_VISIT(self->slow);
    Py_VISIT(self->reason);
    Py_VISIT(Py_TYPE((PyObject *)self));
    return 0;
}

static int Queue_clear(Queue *self)
{
    Py_CLEAR(self->encoder);
    Py_CLEAR(self->batches);
    Py_CLEAR(self->slow);
    Py_CLEAR(self->reason);
    return 0;
}

static void Queue_dealloc(Queue *self)
{
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    PyObject_GC_UnTrack(self);
    Queue_clear(self);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

static PyObject *Queue_new(PyTypeObject *type, PyObject *arguments, PyObject *named)
{
    PyObject *encoder, *batches, *slow, *reason;
    long long most, batch;
    (void)named;
    if (!PyArg_ParseTuple(arguments, "O!OOULL:Queue", Encoder_type, &encoder, &batches, &slow, &reason, &most, &batch))
        return NULL;
    Queue *self = (Queue *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
    if (self == NULL)
        return NULL;
    self->encoder = own(encoder);
    self->batches = own(batches);
    self->slow = own(slow);
    self->reason = own(reason);
    self->most = most;
    self->batch = batch;
    return (PyObject *)self;
}

/* 1, 0, or -1 with an exception. */
static int has_attribute(PyObject *span, PyObject *name)
{
    PyObject *attributes = PyObject_GetAttr(span, s_attributes);
    PyObject *plain = attributes != NULL ? dict_of(attributes) : NULL;
    int result = plain != NULL ? PyDict_Contains(plain, name) : PyErr_Occurred() ? -1 : 0;
    Py_XDECREF(attributes);
    Py_XDECREF(plain);
    return result;
}

/* As start_usual. */
static int queue_usual(Queue *self, PyObject *span)
{
    int result = -1;
    long long pid;
    PyObject *queue = NULL, *body = NULL, *done = NULL, *ended = PyObject_GetAttr(self->batches, s_shutdown);
    PyObject *context = ended != NULL ? PyObject_GetAttr(span, s_context) : NULL;
    if (context == NULL || number_of(self->batches, s_pid, &pid) < 0)
        goto end;
    int odd = ended != Py_False || pid != getpid() || !PyTuple_Check(context) || PyTuple_Size(context) < 4;
    if (!odd && forks != 0) /* one that was not measured may be the parent's, which sends it */
        odd = has_attribute(span, self->reason);
    if (odd != 0) {
        result = odd < 0 ? -1 : 0;
        goto end;
    }
    long flags = PyLong_AsLong(PyTuple_GetItem(context, 3));
    if (flags == -1 && PyErr_Occurred())
        goto end;
    if (!(flags & 1)) { /* not sampled: it is not sent */
        result = 1;
        goto end;
    }
    if ((queue = PyObject_GetAttr(self->batches, s_queue)) == NULL)
        goto end;
    Py_ssize_t size = PyObject_Size(queue);
    if (size < 0)
        goto end;
    if (size >= self->most) {
        result = 0;
        goto end;
    }
    if ((body = Encoder_encode((Encoder *)self->encoder, span)) == NULL)
        goto end;
    if (size + 1 >= self->batch) /* the SDK wakes the thread that sends */
        done = PyObject_CallMethodObjArgs(self->batches, s_emit, body, NULL);
    else
        done = PyObject_CallMethodObjArgs(queue, s_appendleft, body, NULL);
    if (done != NULL)
        result = 1;
end:
    Py_XDECREF(ended);
    Py_XDECREF(context);
    Py_XDECREF(queue);
    Py_XDECREF(body);
    Py_XDECREF(done);
    return result;
}

static PyObject *Queue_on_end(Queue *self, PyObject *span)
{
    int done = queue_usual(self, span);
    if (done == 1)
        return own(Py_None);
    if (done < 0) {
        if (!PyErr_ExceptionMatches(PyExc_Exception))
            return NULL;
        PyErr_Clear(); /* nothing is in the queue: export.py tries, and deals with what goes wrong */
    }
    return PyObject_CallFunctionObjArgs(self->slow, span, NULL);
}

static PyMethodDef Queue_methods[] = {
    {"on_end", (PyCFunction)Queue_on_end, METH_O, "Queue a finished span."},
    {NULL, NULL, 0, NULL},
};
static PyType_Slot Queue_slots[] = {
    {Py_tp_doc, "Queue(encoder, batches, slow, reason, most, batch)"},
    {Py_tp_new, Queue_new},
    {Py_tp_dealloc, Queue_dealloc},
    {Py_tp_traverse, Queue_traverse},
    {Py_tp_clear, Queue_clear},
    {Py_tp_methods, Queue_methods},
    {0, NULL},
};
static PyType_Spec Queue_spec = {
    "layerline._fast.Queue", sizeof(Queue), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, Queue_slots,
};

/* ---- read(descriptor, size): the start of a file; None where it cannot be read */

static PyObject *read_file(PyObject *module, PyObject *const *arguments, Py_ssize_t count)
{
    char first[1024], *text = first;
    (void)module;
    if (count != 2) {
        PyErr_SetString(PyExc_TypeError, "read: expected a descriptor and a size");
        return NULL;
    }
    long fd = PyLong_AsLong(arguments[0]), size = PyLong_AsLong(arguments[1]);
    if (PyErr_Occurred())
        return NULL;
    if (fd < 0 || size <= 0 || size > 1 << 20)
        return own(Py_None);
    if (size > (long)sizeof first && (text = malloc((size_t)size)) == NULL)
        return PyErr_NoMemory();
    ssize_t length = pread((int)fd, text, (size_t)size, 0);
    PyObject *result = length >= 0 ? PyBytes_FromStringAndSize(text, length) : own(Py_None);
    if (text != first)
        free(text);
    return result;
}

/* ---- share_process(payload): the process context of OpenTelemetry (OTEP 4719, version 2)
 *
 * A reader finds the mapping by its name in /proc/PID/maps, reads the header, then the payload that it points to, then the
 * header's time once more: 0, or another time, says that both were being changed. A forked child has no such mapping. */

#ifndef PR_SET_VMA
#define PR_SET_VMA 0x53564d41
#define PR_SET_VMA_ANON_NAME 0
#endif
#define CONTEXT_NAME "OTEL_CTX"

typedef struct {
    char signature[8];
    uint32_t version, payload_size;
    _Atomic uint64_t published_ns; /* CLOCK_BOOTTIME; 0 while it is being changed */
    void *payload;
} Header;
_Static_assert(sizeof(void *) != 8 || sizeof(Header) == 32, "as OTEP 4719 lays it out");

static struct {
    pid_t pid; /* who made the mapping: it is not in its children */
    Header *header;
    void *payload;
} published;

/* A page for the header: of a memfd, whose name is to be seen on every kernel, else an anonymous one. MAP_FAILED where
 * neither can be had. The system call itself, as older C libraries have no function for it. */
static Header *new_header(void)
{
    Header *header = MAP_FAILED;
    long fd = syscall(SYS_memfd_create, CONTEXT_NAME, 1 | 2 | 8); /* CLOEXEC, ALLOW_SEALING, NOEXEC_SEAL (Linux 6.3) */
    if (fd < 0)
        fd = syscall(SYS_memfd_create, CONTEXT_NAME, 1 | 2);
    if (fd >= 0) {
        if (ftruncate((int)fd, sizeof *header) == 0)
            header = mmap(NULL, sizeof *header, PROT_READ | PROT_WRITE, MAP_PRIVATE, (int)fd, 0);
        close((int)fd);
    }
    if (header == MAP_FAILED)
        header = mmap(NULL, sizeof *header, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (header != MAP_FAILED && madvise(header, sizeof *header, MADV_DONTFORK) != 0) {
        munmap(header, sizeof *header);
        header = MAP_FAILED;
    }
    return header;
}

/* Publish a payload, in place of the one before; None: nothing any more. OSError where there is no memory for it. */
static PyObject *share_process(PyObject *module, PyObject *payload)
{
    char *bytes = NULL;
    void *copy = NULL, *old = published.payload;
    Py_ssize_t size = 0;
    (void)module;
    if (payload != Py_None) {
        if (PyBytes_AsStringAndSize(payload, &bytes, &size) < 0)
            return NULL;
        if (size == 0 || size > UINT32_MAX) {
            PyErr_SetString(PyExc_ValueError, "share_process: expected a payload of 1 byte to 4 GiB");
            return NULL;
        }
        if ((copy = malloc((size_t)size)) == NULL)
            return PyErr_NoMemory();
        memcpy(copy, bytes, (size_t)size);
    }
    if (published.pid != getpid())
        published.header = NULL; /* the parent's */
    if (copy == NULL) {
        if (published.header != NULL)
            munmap(published.header, sizeof *published.header);
        published.header = NULL;
        published.payload = NULL;
        free(old);
        return own(Py_None);
    }
    long long now = now_ns(CLOCK_BOOTTIME), before = 0;
    if (published.header == NULL) {
        Header *made = new_header();
        if (made == MAP_FAILED) {
            free(copy);
            return PyErr_SetFromErrno(PyExc_OSError);
        }
        memcpy(made->signature, CONTEXT_NAME, sizeof made->signature);
        made->version = 2;
        published.header = made;
        published.pid = getpid();
    } else
        before = (long long)atomic_exchange(&published.header->published_ns, 0);
    atomic_thread_fence(memory_order_seq_cst);
    published.header->payload_size = (uint32_t)size;
    published.header->payload = published.payload = copy;
    atomic_thread_fence(memory_order_seq_cst);
    atomic_store(&published.header->published_ns, (uint64_t)(now > before ? now : before + 1));
    /* Readers may wait for this call; that the kernel cannot do it (before 5.17) does not matter. */
    (void)prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, (unsigned long)published.header, sizeof *published.header, CONTEXT_NAME);
    free(old);
    return own(Py_None);
}

/* ---- share_span(context): the thread context of OpenTelemetry (OTEP 4947)
 *
 * A reader finds the variable in the table of dynamic symbols, and looks while the thread is stopped: no more than the
 * compiler has to be kept from reordering. Each thread has one record for as long as it lives, which says itself whether it
 * is valid. The variable is reached by the usual way (General Dynamic), not by descriptors: before glibc 2.40 those of a
 * library that is loaded late did not keep all registers. */

typedef struct {
    unsigned char trace_id[16], span_id[8], valid, flags;
    uint16_t attributes_size;
} Record;
_Static_assert(sizeof(Record) == 28, "as OTEP 4947 lays it out");
#define SHOWN 25 /* of what share_span returns: the ids and the flags */

extern __thread Record *otel_thread_ctx_v1;
__attribute__((visibility("default"))) __thread Record *otel_thread_ctx_v1;
static __thread Record shown_here;

/* Show a SpanContext (a tuple), what an earlier call has returned, or None; returns what was shown before. */
static PyObject *share_span(PyObject *module, PyObject *context)
{
    unsigned char now[SHOWN], before[SHOWN];
    Record *record = &shown_here;
    PyObject *result;
    int there = 0;
    (void)module;
    if (PyBytes_Check(context) && PyBytes_Size(context) == SHOWN) {
        memcpy(now, PyBytes_AsString(context), SHOWN);
        there = 1;
    } else if (PyTuple_Check(context) && PyTuple_Size(context) >= 4) {
        there = id_of(PyTuple_GetItem(context, 0), 16, now);
        if (there == 1)
            there = id_of(PyTuple_GetItem(context, 1), 8, now + 16);
        if (there == 1)
            now[24] = (unsigned char)PyLong_AsUnsignedLongMask(PyTuple_GetItem(context, 3));
        if (there < 0 || PyErr_Occurred())
            return NULL;
    } else if (context != Py_None) {
        PyErr_SetString(PyExc_TypeError, "share_span: expected a SpanContext, what was returned before, or None");
        return NULL;
    }
    if (record->valid) {
        memcpy(before, record->trace_id, 24);
        before[24] = record->flags;
        if ((result = PyBytes_FromStringAndSize((char *)before, SHOWN)) == NULL)
            return NULL;
    } else
        result = own(Py_None);
    *(volatile unsigned char *)&record->valid = 0;
    atomic_signal_fence(memory_order_seq_cst);
    if (there == 1) {
        memcpy(record->trace_id, now, 24);
        record->flags = now[24];
        atomic_signal_fence(memory_order_seq_cst);
        *(volatile unsigned char *)&record->valid = 1;
        if (otel_thread_ctx_v1 == NULL)
            *(Record *volatile *)&otel_thread_ctx_v1 = record;
    }
    return result;
}

/* ---- the module */

/* connect(merged, classify, getframe, helper): the Python functions that are called, and the code that is known. */
static PyObject *connect(PyObject *module, PyObject *arguments)
{
    PyObject *given[4], **kept[] = {&merged_function, &classify_function, &getframe_function, &helper_code};
    (void)module;
    if (!PyArg_ParseTuple(arguments, "OOOO:connect", &given[0], &given[1], &given[2], &given[3]))
        return NULL;
    for (int i = 0; i < 4; i++) {
        PyObject *old = *kept[i];
        *kept[i] = own(given[i]);
        Py_XDECREF(old);
    }
    return own(Py_None);
}

/* forked(count): how often this process was forked off, for the spans that are opened from now on. */
static PyObject *forked(PyObject *module, PyObject *count)
{
    long long value = PyLong_AsLongLong(count);
    (void)module;
    if (value == -1 && PyErr_Occurred())
        return NULL;
    forks = value;
    return own(Py_None);
}

/* sliced(pieces, start, end): thread.sliced. */
static PyObject *sliced_pieces(PyObject *module, PyObject *arguments)
{
    PyObject *pieces;
    long long start, end;
    (void)module;
    if (!PyArg_ParseTuple(arguments, "O!LL:sliced", &PyList_Type, &pieces, &start, &end))
        return NULL;
    return sliced(pieces, start, end);
}

static PyMethodDef module_methods[] = {
    {"sliced", sliced_pieces, METH_VARARGS, "sliced(pieces, start, end): a span's slices as exported."},
    {"connect", connect, METH_VARARGS, "connect(merged, classify, getframe, helper)"},
    {"read", (PyCFunction)(void (*)(void))read_file, METH_FASTCALL, "read(descriptor, size): the start of a file, or None."},
    {"forked", forked, METH_O, "forked(count): how often this process was forked off."},
    {"share_process", share_process, METH_O, "share_process(payload): the process context that readers outside see."},
    {"share_span", share_span, METH_O, "share_span(context): the span that readers outside see on this thread."},
    {NULL, NULL, 0, NULL},
};
static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "layerline._fast", "What happens at every start and end of a span, in C.", -1, module_methods,
    NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__fast(void)
{
    if (PyInterpreterState_GetID(PyInterpreterState_Get()) != 0) {
        PyErr_SetString(PyExc_ImportError, "layerline._fast: for the main interpreter only");
        return NULL;
    }
    for (size_t i = 0; i < sizeof NAMES / sizeof NAMES[0]; i++)
        if (*NAMES[i].where == NULL && (*NAMES[i].where = PyUnicode_InternFromString(NAMES[i].text)) == NULL)
            return NULL;
    if ((number_0 = PyLong_FromLong(0)) == NULL || (number_helper = PyLong_FromLong(TO_HELPER)) == NULL ||
        (number_caller = PyLong_FromLong(TO_HELPER + 2)) == NULL)
        return NULL;
    PyObject *module = PyModule_Create(&definition);
    if (module == NULL)
        return NULL;
    if (PyModule_AddIntConstant(module, "INTERFACE", 2) < 0) { /* as in fast.py */
        Py_DECREF(module);
        return NULL;
    }
    struct { const char *name; PyType_Spec *spec; PyTypeObject **kept; } types[] = {
        {"Open", &Open_spec, &Open_type},
        {"Thread", &Thread_spec, &Thread_type},
        {"Hooks", &Hooks_spec, NULL},
        {"Encoder", &Encoder_spec, &Encoder_type},
        {"Queue", &Queue_spec, NULL},
    };
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        PyObject *type = PyType_FromSpec(types[i].spec);
        if (type == NULL || PyModule_AddObjectRef(module, types[i].name, type) < 0) {
            Py_XDECREF(type);
            Py_DECREF(module);
            return NULL;
        }
        if (types[i].kept != NULL)
            *types[i].kept = (PyTypeObject *)type; /* owned for good */
        else
            Py_DECREF(type);
    }
    return module;
}
