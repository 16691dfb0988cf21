insert into slow_emp4000
select box(point(n * 7919 % 50000, n * 104729 % 50000),
    point(n * 7919 % 50000 + n % 900, n * 104729 % 50000 + n % 700))
from generate_series(1, 3000) as n;
insert into slow_emp4000 values ('(337,455),(240,359)'), ('(663,907),(759,187)'), (null), (null);
