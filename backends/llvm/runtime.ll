; The thread pool's native half: workers that wait for jobs, and barriers inside jobs.
; pool.py appends @rg.pause: the instruction a spinning core should execute, or nothing.
;
; A job, all i64:      participants, then for each participant: address of its records, number of records
; A record, 10 x i64:  fn, args, a0 .. a6, unused
;     fn != 0:  call void fn(args, a0, ..., a6)
;     fn == 0:  barrier on the counter at address args, between a0 participants
; A slot, one per thread, 512 bytes (the parts that different threads write lie on different lines):
;        0  posted   number of jobs given to this thread; written by the caller of rg_pool_run
;        8  job      address of the latest job; 0 tells the worker to return
;       64  done     number of jobs finished; written by the worker
;      128  asleep   1 while the worker is parked, or about to be
;      192  mutex    320  condition

declare i32 @sched_yield()
declare i32 @pthread_mutex_init(ptr, ptr)
declare i32 @pthread_mutex_lock(ptr)
declare i32 @pthread_mutex_unlock(ptr)
declare i32 @pthread_cond_init(ptr, ptr)
declare i32 @pthread_cond_wait(ptr, ptr)
declare i32 @pthread_cond_signal(ptr)

; One step of waiting: the first %patience steps pause, later ones let another thread have the core, so that a
; thread which waits never keeps the one it waits for from running. Returns the number of steps done.
define internal i64 @rg.wait(i64 %steps, i64 %patience) nounwind alwaysinline {
entry:
  %patient = icmp slt i64 %steps, %patience
  br i1 %patient, label %spin, label %yield
spin:
  call void @rg.pause()
  br label %out
yield:
  %ignored = call i32 @sched_yield()
  br label %out
out:
  %next = add i64 %steps, 1
  ret i64 %next
}

; %n pauses: pool.py times it to turn microseconds into steps.
define void @rg_spin(i64 %n) nounwind {
entry:
  br label %head
head:
  %i = phi i64 [ 0, %entry ], [ %next, %body ]
  %more = icmp slt i64 %i, %n
  br i1 %more, label %body, label %out
body:
  call void @rg.pause()
  %next = add i64 %i, 1
  br label %head
out:
  ret void
}

; Waits until all participants have arrived. The counter starts at 0 and only grows: arrival number i belongs to
; round i / participants, and a round is over when the counter has reached its end. Nobody can arrive for the next
; round before that, so one counter serves any number of rounds without being reset. Two jobs that may run at the
; same time, or with different numbers of participants, need counters of their own.
define internal void @rg.meet(ptr %counter, i64 %participants, i64 %patience) nounwind {
entry:
  %before = atomicrmw add ptr %counter, i64 1 acq_rel
  %round = udiv i64 %before, %participants
  %following = add i64 %round, 1
  %end = mul i64 %following, %participants
  br label %check
check:
  %steps = phi i64 [ 0, %entry ], [ %waited, %wait ]
  %now = load atomic i64, ptr %counter acquire, align 8
  %here = icmp uge i64 %now, %end
  br i1 %here, label %out, label %wait
wait:
  %waited = call i64 @rg.wait(i64 %steps, i64 %patience)
  br label %check
out:
  ret void
}

; The barrier inside loops. The word behind the counter says how long to spin before giving the core away: long while
; every thread has a core of its own, because a thread that yields to a stranger may wait for its time slice at every
; step of the loop.
define void @rg_barrier(ptr %counter, i64 %participants) nounwind {
  %p.patience = getelementptr i64, ptr %counter, i64 1
  %patience = load i64, ptr %p.patience, align 8
  call void @rg.meet(ptr %counter, i64 %participants, i64 %patience)
  ret void
}

; Gives a job the memory of this call's numpy arrays. Returns 1, with nothing done, when an input has another dtype than
; expected, or is not C-contiguous and aligned. hot.py has the words of %call, all i64:
;     0 job  1 objects: one word for each array, inputs first, the address of the Python object  2 number of inputs
;     3 dtype object  4, 5, 6 bytes from an object to its memory's address, dtype, flags  7 patches  8 number of patches
; A patch, 3 x i64: which array, address of the word that is to hold its memory's address, bytes to add
define i64 @rg_bind(ptr %call) nounwind {
entry:
  %p.objects = getelementptr i64, ptr %call, i64 1
  %objects = load ptr, ptr %p.objects, align 8
  %p.inputs = getelementptr i64, ptr %call, i64 2
  %inputs = load i64, ptr %p.inputs, align 8
  %p.dtype = getelementptr i64, ptr %call, i64 3
  %dtype = load i64, ptr %p.dtype, align 8
  %p.to.data = getelementptr i64, ptr %call, i64 4
  %to.data = load i64, ptr %p.to.data, align 8
  %p.to.dtype = getelementptr i64, ptr %call, i64 5
  %to.dtype = load i64, ptr %p.to.dtype, align 8
  %p.to.flags = getelementptr i64, ptr %call, i64 6
  %to.flags = load i64, ptr %p.to.flags, align 8
  %p.patches = getelementptr i64, ptr %call, i64 7
  %patches = load ptr, ptr %p.patches, align 8
  %p.count = getelementptr i64, ptr %call, i64 8
  %count = load i64, ptr %p.count, align 8
  br label %check
check:
  %i = phi i64 [ 0, %entry ], [ %i.next, %flagged ]
  %unchecked = icmp slt i64 %i, %inputs
  br i1 %unchecked, label %typed, label %bind
typed:
  %p.object = getelementptr ptr, ptr %objects, i64 %i
  %object = load ptr, ptr %p.object, align 8
  %p.own.dtype = getelementptr i8, ptr %object, i64 %to.dtype
  %own.dtype = load i64, ptr %p.own.dtype, align 8
  %right = icmp eq i64 %own.dtype, %dtype
  br i1 %right, label %flagged, label %refuse
flagged:
  %p.flags = getelementptr i8, ptr %object, i64 %to.flags
  %flags = load i32, ptr %p.flags, align 4
  %plain = and i32 %flags, 257  ; NPY_ARRAY_C_CONTIGUOUS | NPY_ARRAY_ALIGNED
  %is.plain = icmp eq i32 %plain, 257
  %i.next = add i64 %i, 1
  br i1 %is.plain, label %check, label %refuse
refuse:
  ret i64 1
bind:
  %k = phi i64 [ 0, %check ], [ %k.next, %patch ]
  %unbound = icmp slt i64 %k, %count
  br i1 %unbound, label %patch, label %done
patch:
  %p.which = getelementptr [3 x i64], ptr %patches, i64 %k
  %which = load i64, ptr %p.which, align 8
  %p.word = getelementptr i64, ptr %p.which, i64 1
  %word = load ptr, ptr %p.word, align 8
  %p.more = getelementptr i64, ptr %p.which, i64 2
  %more = load i64, ptr %p.more, align 8
  %p.array = getelementptr ptr, ptr %objects, i64 %which
  %array = load ptr, ptr %p.array, align 8
  %p.data = getelementptr i8, ptr %array, i64 %to.data
  %data = load i64, ptr %p.data, align 8
  %address = add i64 %data, %more
  store i64 %address, ptr %word, align 8
  %k.next = add i64 %k, 1
  br label %bind
done:
  ret i64 0
}

; rg_bind, and where it returns 0 the job, on this thread.
define i64 @rg_call(ptr %call) nounwind {
entry:
  %refused = call i64 @rg_bind(ptr %call)
  %fits = icmp eq i64 %refused, 0
  br i1 %fits, label %work, label %out
work:
  %job = load ptr, ptr %call, align 8
  call void @rg_run(ptr %job, i64 0)
  br label %out
out:
  ret i64 %refused
}

; Participant %tid of the job runs its records in order.
define void @rg_run(ptr %job, i64 %tid) nounwind {
entry:
  %twice = shl i64 %tid, 1
  %at.records = add i64 %twice, 1
  %p.records = getelementptr i64, ptr %job, i64 %at.records
  %records = load ptr, ptr %p.records, align 8
  %at.count = add i64 %twice, 2
  %p.count = getelementptr i64, ptr %job, i64 %at.count
  %count = load i64, ptr %p.count, align 8
  br label %head
head:
  %i = phi i64 [ 0, %entry ], [ %next, %end ]
  %more = icmp slt i64 %i, %count
  br i1 %more, label %body, label %out
body:
  %record = getelementptr [10 x i64], ptr %records, i64 %i
  %fn = load ptr, ptr %record, align 8
  %p.args = getelementptr i64, ptr %record, i64 1
  %args = load ptr, ptr %p.args, align 8
  %p0 = getelementptr i64, ptr %record, i64 2
  %a0 = load i64, ptr %p0, align 8
  %call = icmp ne ptr %fn, null
  br i1 %call, label %work, label %meet
work:
  %p1 = getelementptr i64, ptr %record, i64 3
  %a1 = load i64, ptr %p1, align 8
  %p2 = getelementptr i64, ptr %record, i64 4
  %a2 = load i64, ptr %p2, align 8
  %p3 = getelementptr i64, ptr %record, i64 5
  %a3 = load i64, ptr %p3, align 8
  %p4 = getelementptr i64, ptr %record, i64 6
  %a4 = load i64, ptr %p4, align 8
  %p5 = getelementptr i64, ptr %record, i64 7
  %a5 = load i64, ptr %p5, align 8
  %p6 = getelementptr i64, ptr %record, i64 8
  %a6 = load i64, ptr %p6, align 8
  call void %fn(ptr %args, i64 %a0, i64 %a1, i64 %a2, i64 %a3, i64 %a4, i64 %a5, i64 %a6)
  br label %end
meet:
  call void @rg.meet(ptr %args, i64 %a0, i64 1024)
  br label %end
end:
  %next = add i64 %i, 1
  br label %head
out:
  ret void
}

; Prepares zeroed slots.
define void @rg_pool_init(ptr %slots, i64 %threads) nounwind {
entry:
  br label %head
head:
  %t = phi i64 [ 0, %entry ], [ %next, %body ]
  %more = icmp slt i64 %t, %threads
  br i1 %more, label %body, label %out
body:
  %slot = getelementptr [512 x i8], ptr %slots, i64 %t
  %mutex = getelementptr i8, ptr %slot, i64 192
  %condition = getelementptr i8, ptr %slot, i64 320
  %r0 = call i32 @pthread_mutex_init(ptr %mutex, ptr null)
  %r1 = call i32 @pthread_cond_init(ptr %condition, ptr null)
  %next = add i64 %t, 1
  br label %head
out:
  ret void
}

; Gives the job to the thread of the slot. Either the worker sees the new number before it parks, or this sees that
; it is asleep: both sides write their word and then read the other's, sequentially consistent.
define void @rg_post(ptr %slot, ptr %job) nounwind {
entry:
  %p.job = getelementptr i8, ptr %slot, i64 8
  store ptr %job, ptr %p.job, align 8
  %old = atomicrmw add ptr %slot, i64 1 seq_cst
  %p.asleep = getelementptr i8, ptr %slot, i64 128
  %asleep = load atomic i64, ptr %p.asleep seq_cst, align 8
  %parked = icmp ne i64 %asleep, 0
  br i1 %parked, label %wake, label %out
wake:
  %mutex = getelementptr i8, ptr %slot, i64 192
  %condition = getelementptr i8, ptr %slot, i64 320
  %r0 = call i32 @pthread_mutex_lock(ptr %mutex)
  %r1 = call i32 @pthread_cond_signal(ptr %condition)
  %r2 = call i32 @pthread_mutex_unlock(ptr %mutex)
  br label %out
out:
  ret void
}

; Runs the job; returns when all its participants are through. The calling thread is participant 0, the workers of
; slots 1 .. participants-1 are the others. One caller at a time.
define void @rg_pool_run(ptr %slots, ptr %job) nounwind {
entry:
  %participants = load i64, ptr %job, align 8
  br label %head
head:
  %t = phi i64 [ 1, %entry ], [ %t.next, %post ]
  %more = icmp slt i64 %t, %participants
  br i1 %more, label %post, label %work
post:
  %slot = getelementptr [512 x i8], ptr %slots, i64 %t
  call void @rg_post(ptr %slot, ptr %job)
  %t.next = add i64 %t, 1
  br label %head
work:
  call void @rg_run(ptr %job, i64 0)
  br label %join
join:
  %u = phi i64 [ 1, %work ], [ %u.next, %joined ]
  %waiting = icmp slt i64 %u, %participants
  br i1 %waiting, label %look, label %out
look:
  %other = getelementptr [512 x i8], ptr %slots, i64 %u
  %posted = load i64, ptr %other, align 8
  %p.done = getelementptr i8, ptr %other, i64 64
  br label %check
check:
  %steps = phi i64 [ 0, %look ], [ %waited, %wait ]
  %done = load atomic i64, ptr %p.done acquire, align 8
  %same = icmp eq i64 %done, %posted
  br i1 %same, label %joined, label %wait
wait:
  %waited = call i64 @rg.wait(i64 %steps, i64 1024)
  br label %check
joined:
  %u.next = add i64 %u, 1
  br label %join
out:
  ret void
}

; A worker's whole life: wait for a job (spin for %patience steps, yield a few times, then park), run it, say so.
; Returns when the job posted is null.
define void @rg_worker(ptr %slot, i64 %tid, i64 %patience) nounwind {
entry:
  %p.job = getelementptr i8, ptr %slot, i64 8
  %p.done = getelementptr i8, ptr %slot, i64 64
  %p.asleep = getelementptr i8, ptr %slot, i64 128
  %mutex = getelementptr i8, ptr %slot, i64 192
  %condition = getelementptr i8, ptr %slot, i64 320
  %last = add i64 %patience, 4
  br label %idle
idle:
  %finished = phi i64 [ 0, %entry ], [ %seen, %run ]
  br label %check
check:
  %steps = phi i64 [ 0, %idle ], [ %waited, %wait ]
  %now = load atomic i64, ptr %slot acquire, align 8
  %new = icmp ne i64 %now, %finished
  br i1 %new, label %go, label %patient
patient:
  %again = icmp slt i64 %steps, %last
  br i1 %again, label %wait, label %park
wait:
  %waited = call i64 @rg.wait(i64 %steps, i64 %patience)
  br label %check
park:
  %r0 = call i32 @pthread_mutex_lock(ptr %mutex)
  store atomic i64 1, ptr %p.asleep seq_cst, align 8
  br label %parked
parked:
  %posted = load atomic i64, ptr %slot seq_cst, align 8
  %called = icmp ne i64 %posted, %finished
  br i1 %called, label %awake, label %sleep
sleep:
  %r1 = call i32 @pthread_cond_wait(ptr %condition, ptr %mutex)
  br label %parked
awake:
  store atomic i64 0, ptr %p.asleep seq_cst, align 8
  %r2 = call i32 @pthread_mutex_unlock(ptr %mutex)
  br label %go
go:
  %seen = phi i64 [ %now, %check ], [ %posted, %awake ]
  %job = load ptr, ptr %p.job, align 8
  %stop = icmp eq ptr %job, null
  br i1 %stop, label %out, label %run
run:
  call void @rg_run(ptr %job, i64 %tid)
  store atomic i64 %seen, ptr %p.done release, align 8
  br label %idle
out:
  ret void
}
