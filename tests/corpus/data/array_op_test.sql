insert into array_op_test
select n,
    array(select (n * k * 37 + k * k) % 101 from generate_series(1, n % 9) as k)::int4[],
    array(select repeat('A', (n + k) % 17 + 1) || (n * k * 9973) % 99991
        from generate_series(1, n % 7) as k)
from generate_series(1, 96) as n;
insert into array_op_test values
    (97, '{32,17}', '{AAAAAAAA72908,AAAAAAAAAA646}'), (98, '{38,34,32,89}', '{AA88409}'),
    (99, '{}', '{}'), (100, '{NULL}', '{NULL}'), (101, null, null), (102, '{47,77}', '{}');
