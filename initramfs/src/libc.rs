// SPDX-License-Identifier: Apache-2.0
//! Functions of the C library and of the unwinder that a static program is better off without. The linker takes these instead, and
//! leaves out what only the originals need: a fifth of the binary.
//!
//! Each answers as the original may, or ends the program with words where it may not be asked at all. A C library that hasn't one of the
//! names loses nothing by it; `-Wl,--why-extract=FILE` tells what is still linked, and for whom.

#![allow(non_upper_case_globals, reason = "names of the C library")]
#![allow(unsafe_code, reason = "the names of C functions are claimed; the functions themselves are safe")]

use std::ffi::{c_char, c_int};

/// Functions that give the same answer, whatever they are asked.
macro_rules! answer {
    ($answer:expr; $($name:ident)+) => {
        $(
            #[unsafe(no_mangle)]
            pub(crate) extern "C" fn $name() -> isize {
                $answer
            }
        )+
    };
}

/// Functions that nobody asks for, and that end the program.
macro_rules! end {
    ($($name:ident)+) => {
        $(
            #[unsafe(no_mangle)]
            pub(crate) extern "C" fn $name() -> ! {
                end(stringify!($name))
            }
        )+
    };
}

#[cold]
fn end(name: &str) -> ! {
    eprintln!("fledge: the C library asked for {name}, which this program leaves out: this is a defect of Fledge");
    std::process::abort()
}

/// `_URC_END_OF_STACK` of the Itanium C++ ABI, section 1.2.1.
const END_OF_STACK: isize = 5;
const ENOSYS: isize = 38;

// There are no unwind tables to walk over a stack with. Since the compiler sees that nothing is found, it leaves out the standard library's
// reader of debug information, too, which would name what was walked over.
answer!(END_OF_STACK;
    _Unwind_Backtrace _Unwind_DeleteException _Unwind_FindEnclosingFunction _Unwind_ForcedUnwind _Unwind_GetCFA
    _Unwind_GetDataRelBase _Unwind_GetIP _Unwind_GetIPInfo _Unwind_GetLanguageSpecificData _Unwind_GetRegionStart
    _Unwind_GetTextRelBase _Unwind_RaiseException _Unwind_SetGR _Unwind_SetIP __gcc_personality_v0
);
end!(_Unwind_Resume);

// The C library's failed assertions print through streams of narrow and wide characters.
end!(__assert_fail);

// The standard library asks where a thread's stack ends, to tell an overflow from other faults. The C library would read
// `/proc/self/maps` for it, and scan numbers.
answer!(ENOSYS; pthread_getattr_np);

// Names of threads go through printf.
answer!(ENOSYS; pthread_setname_np);

// printf and streams, which bring floating point numbers and character sets, and with these what loads libraries: there is no stream to
// lock when a thread begins, to see to after fork, or to flush in the end.
answer!(-1; __asprintf asprintf __fprintf_chk __fxprintf fprintf __snprintf snprintf sprintf _IO_fputs fputs _IO_fwrite fwrite);
answer!(0; _IO_cleanup _IO_enable_locks _IO_iter_begin _IO_iter_end _IO_iter_file _IO_iter_next _IO_list_lock
    _IO_list_resetlock _IO_list_unlock _IO_proc_file_chain_lock _IO_proc_file_chain_resetlock _IO_proc_file_chain_unlock
);

/// Where `malloc_stats` would print.
#[unsafe(no_mangle)]
pub(crate) static stderr: usize = 0;

// What each thread has of the locale and of the resolver.
answer!(0; __ctype_init __res_iclose __res_randomid __res_thread_freeres __res_vinit);

// Numbers in texts with the thousands separators of locales: `sysconf` reads the limit of groups with it, and malloc the list of processors,
// to know how many arenas may be. It knows of one processor, and has eight.
end!(__isoc23_strtol __isoc23_strtoul strtol strtoul);
answer!(1; __get_nprocs get_nprocs);

// Libraries are not loaded, nothing is found in them, and no stack is made executable for one.
answer!(0; dlsym _dl_get_origin _dl_init_paths);
answer!(ENOSYS; __nptl_change_stack_perm);

/// gettext(3): the message as it is.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn __dcgettext(
    _domain: *const c_char,
    message: *const c_char,
    _category: c_int,
) -> *const c_char {
    message
}

/// The same by its public name.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn dcgettext(_domain: *const c_char, message: *const c_char, _category: c_int) -> *const c_char {
    message
}
