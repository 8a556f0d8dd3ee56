"""What newc cannot carry: `security.*` xattrs (file capabilities, SELinux) and POSIX ACLs, restored on the node."""
